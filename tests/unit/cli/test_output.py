"""What is printed is read again as it was, by whoever reads it."""

import yaml

from auterity.cli.output import as_yaml


def test_text_that_looks_like_a_number_to_some_stands_in_quotes():
    data = {"a": "4e-4", "b": "1e3", "c": "0o17", "d": "-.5e3", "e": "0.5", "f": "v1.2", "g": 7}
    text = as_yaml(data)
    assert yaml.safe_load(text) == data
    for quoted in ("'4e-4'", "'1e3'", "'0o17'", "'-.5e3'", "'0.5'"):
        assert quoted in text
    assert "f: v1.2" in text
    assert "g: 7" in text
