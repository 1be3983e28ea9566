"""What the tests of the published networks share."""

import numpy as np
import pytest
import torch


@pytest.fixture(scope="module")
def tensors(reference):
    """The recorded checkpoint of the module's `reference`, as its authors' program would have it in memory."""
    return {key: torch.from_numpy(np.array(value)) for key, value in reference.checkpoint.items()}


@pytest.fixture(scope="module")
def official(tensors, tmp_path_factory):
    """A file that holds it bare, as most authors publish theirs."""
    path = tmp_path_factory.mktemp("official") / "weights.pth"
    torch.save(tensors, path)
    return path
