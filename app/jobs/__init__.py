"""Long work as jobs in the database: asked for by one call, done by whichever process is free, watched from any.

A job belongs to an assessment, and through it to a key. A process that takes it leases it (`leases`): while it lives it
renews the lease; when it dies the lease runs out and another process goes on where the first was. Each lease has a
number, the fence, and every write of a job's work names it in the same transaction, so a process that only seemed dead
can write nothing once its job is another's.
"""
