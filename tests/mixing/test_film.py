import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mattecli.errors import UsageError
from mattecli.mixing.film import WIDEST, Film
from mattecli.mixing.settings import data_settings


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(20, 90), st.integers(20, 90))
def test_bars_are_known_to_be_empty_and_the_rest_keeps_its_alpha(seed, height, width):
    rng = np.random.default_rng(seed)
    rgb = rng.integers(40, 256, (height, width, 3), dtype=np.uint8)
    alpha, known = (rng.uniform(0.1, 1, (height, width)).astype(np.float32) for _ in range(2))
    film = Film.draw(rng)
    shown, seen, sure = film.show(rgb, alpha, known)
    bars = (seen == 0) & (sure == 1)
    assert (shown[bars] == film.black).all()
    assert (seen[~bars] == alpha[~bars]).all() and (sure[~bars] == known[~bars]).all()
    assert bars.mean() <= 2 * WIDEST + 1 / 20
    if film.grey is None:
        assert (shown[~bars] == rgb[~bars]).all() and film.bars != (0, 0)
    else:
        assert (shown == shown[..., :1]).all()


def test_a_film_is_grey_or_barred_or_both():
    films = [Film.draw(np.random.default_rng(seed)) for seed in range(60)]
    kinds = {(film.grey is not None, film.bars[0] > 0, film.bars[1] > 0) for film in films}
    assert kinds == {(False, True, False), (False, False, True), (True, False, False)} | {
        (True, True, False),
        (True, False, True),
    }


def test_films_and_backgrounds_do_not_go_together():
    table = {
        "film": 0.2,
        "background": "layer",
        "sources": [{"name": "people", "kind": "mattes", "root": "people", "composed": 1.0}],
        "phases": [{"until": 1, "size": 64, "batch": 1}],
    }
    with pytest.raises(UsageError, match="film goes with"):
        data_settings(table)
    assert data_settings({**table, "background": "none"}).film == 0.2
