"""A clip beside another: which of its frames is shown when."""

from fractions import Fraction

import numpy as np
import pytest

from mattecli.inference.guidance.beside import Beside
from mattecli.media.clips.reading.clip import open_clip
from tests.media.clips.making import make_clip


@pytest.mark.parametrize("rate", [24, 30, Fraction(30000, 1001)])
@pytest.mark.parametrize("suffixes", [(".mp4", ".mkv"), (".mkv", ".mp4")])
def test_clips_of_one_rate_keep_step(tmp_path, rate, suffixes):
    """Though .mkv rounds its times to the millisecond."""
    main, beside = (tmp_path / f"{number}{suffix}" for number, suffix in enumerate(suffixes))
    for path in (main, beside):
        make_clip(path, 12, rate=rate)
    with open_clip(str(main)) as clip, open_clip(str(beside)) as other, open_clip(str(beside)) as again:
        shown = Beside(other)
        for frame, expected in zip(clip, again, strict=True):
            np.testing.assert_array_equal(shown(frame, 64, 96), expected.view(64, 96))
