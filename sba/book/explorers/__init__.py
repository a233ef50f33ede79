"""The explorers: a Python file prepares the data of a picture, and an ES module draws it."""
