from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medfocus_pipeline.errors import DataError
from medfocus_pipeline.heads.fusion_space import Space, shared_basis
from medfocus_pipeline.heads.protocol import TrainingSet
from medfocus_pipeline.heads.zeroshot import tiled
from tests.heads.sets import dual_encoder, made_up


def space(train: TrainingSet, *, width: int = 8) -> Space:
    return Space.of(train, width=width, generator=torch.Generator().manual_seed(0))


@settings(max_examples=20)
@given(
    width=st.integers(1, 20),
    dim=st.integers(2, 20),
    rows=st.integers(1, 12),
    seed=st.integers(0, 9),
)
def test_the_shared_basis_is_orthonormal(width: int, dim: int, rows: int, seed: int) -> None:
    source = torch.Generator().manual_seed(seed)
    texts = torch.randn((3, dim), generator=source)
    images = torch.randn((rows, dim), generator=source)
    basis = shared_basis(texts, images, width=width, generator=source)
    assert basis.shape == (dim, min(width, dim))
    torch.testing.assert_close(basis.T @ basis, torch.eye(min(width, dim)), atol=1e-5, rtol=0)
    if width >= 3:
        torch.testing.assert_close(texts @ basis @ basis.T, texts, atol=1e-4, rtol=0)


def test_the_shared_basis_holds_where_the_images_vary_most() -> None:
    source = torch.Generator().manual_seed(0)
    strong = torch.randn((50, 4), generator=source) @ torch.randn((4, 30), generator=source)
    images = 10 * strong + 0.01 * torch.randn((50, 30), generator=source)
    basis = shared_basis(torch.eye(2, 30), images, width=8, generator=source)
    rest = images - images @ basis @ basis.T
    assert rest.norm() < 1e-3 * images.norm()


@pytest.mark.parametrize("with_text", [True, False])
def test_the_basis_reads_no_label(with_text: bool) -> None:
    train = dual_encoder(images=24, seed=0)
    train = train if with_text else replace(train, text=None)
    other = replace(train, labels=train.labels[::-1].copy())
    assert torch.equal(space(train).basis, space(other).basis)


def test_learned_texts_start_from_the_images_of_the_rows_alone() -> None:
    train = made_up(classes=3)
    whole = space(train)
    rows = np.flatnonzero(np.repeat(train.labels, 3) != 2)[:30]
    texts, origin = whole.start(rows)
    x, labels = whole.x[rows], whole.labels[rows]
    torch.testing.assert_close(origin, x.mean(dim=0, keepdim=True))
    means = torch.stack([x[labels == 0].mean(dim=0), x[labels == 1].mean(dim=0), origin[0]])
    torch.testing.assert_close(texts, means - means.mean(dim=0))


def test_texts_of_joined_focus_modes_stand_once_for_each() -> None:
    text = np.eye(3, 4, dtype=np.float32)
    vectors = tiled(text, dim=8)
    np.testing.assert_allclose(vectors, np.hstack([text, text]) / np.sqrt(2))


def test_texts_of_another_encoder_are_refused() -> None:
    train = replace(made_up(dim=12), text=np.eye(3, 5, dtype=np.float32))
    with pytest.raises(DataError, match="12 dimensions and class texts 5, expected a multiple"):
        space(train)
