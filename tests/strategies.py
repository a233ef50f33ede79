"""Values that nobody means, and how many of them a test takes: ``SBA_ABUSE=long`` asks for ten times as many."""

import os

import hypothesis.strategies as st

MORE = 10 if os.environ.get("SBA_ABUSE") == "long" else 1

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)

junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
