"""Who is calling: API keys, the middleware that asks for them, and how many calls each may make."""

from app.auth.keys import ApiKey, Keys, UnknownKeyError
from app.auth.tokens import TOKEN_FORM

__all__ = ["TOKEN_FORM", "ApiKey", "Keys", "UnknownKeyError"]
