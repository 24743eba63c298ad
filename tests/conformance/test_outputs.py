"""What a provider publishes is on its page."""

import re

import pytest

from tests.conformance.harness import Harness


def fits(name: str, documented: str) -> bool:
    """Whether an output is the documented one; what stands in angle brackets is any name."""
    parts = re.split(r"<[^>]+>", documented)
    return re.fullmatch(".+".join(map(re.escape, parts)), name) is not None


async def test_every_output_is_documented(harness: Harness):
    await harness.make()
    observed = await harness.read()
    assert observed is not None
    told = {*observed.outputs, *observed.secrets}
    documented = [name for name, _ in harness.provider.publishes]
    if told and not documented:
        pytest.skip(f"{harness.provider.vendor} does not say what it publishes: {sorted(told)}")
    assert [name for name in sorted(told) if not any(fits(name, d) for d in documented)] == []
    assert all(text.endswith(".") for _, text in harness.provider.publishes)


@pytest.mark.parametrize(
    ("name", "documented", "fit"),
    [
        ("host", "host", True),
        ("privateHost", "host", False),
        ("web.clientId", "<application>.clientId", True),
        ("web.clientSecret", "<application>.clientId", False),
        (".clientId", "<application>.clientId", False),
    ],
)
def test_a_name_in_angle_brackets_is_any(name: str, documented: str, fit: bool):  # noqa: FBT001 - a parameter of the test
    assert fits(name, documented) is fit
