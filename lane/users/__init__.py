"""The users of a server: their accounts, where these are kept, and what each user has used."""
