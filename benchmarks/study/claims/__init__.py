"""Question 5: the papers' claims, one by one, at small scale."""
