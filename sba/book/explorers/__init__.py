"""The explorers: each is a Python file that prepares what a picture is drawn from, and an ES module that draws it."""
