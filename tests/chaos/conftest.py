"""A running ZapHub for a test, on which hosts are killed and crowds write at once."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from local.soak.stand import Layout, Stand, standing


@pytest.fixture
def layout() -> Layout:
    """Four phones over two host processes: each kill leaves half of the sessions at work."""
    return Layout(sessions=4, children=2)


@pytest.fixture
async def stand(tmp_path: Path, layout: Layout) -> AsyncIterator[Stand]:
    async with standing(tmp_path, layout) as stand:
        yield stand
