"""How a file becomes an array, and what is refused."""
