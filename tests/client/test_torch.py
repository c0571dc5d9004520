"""Frozen features in PyTorch: what is missing, what learns, and that a ranker can be fed from them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

import twhin_client
from tests.support.service_bundle import user_ids
from twhin_client import Client
from twhin_client.torch import FrozenEmbedding, Missing, RankingDataset, TorchDecoder

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
USERS = user_ids()


@pytest.mark.parametrize("version", ["format-1-hnsw", "format-1-faiss"])
def test_the_decoder_agrees_with_numpy_s(version: str) -> None:
    for name in twhin_client.open(GOLDEN / version).space().types:
        table = twhin_client.open(GOLDEN / version).entities(name)
        assert table.decoder is not None
        decoder = TorchDecoder(table.decoder)
        assert not list(decoder.parameters())
        decoded = decoder(torch.tensor(np.array(table.codes))).numpy()
        np.testing.assert_allclose(decoded, table.decoder.decode(np.array(table.codes)), atol=1e-5)


def test_an_id_without_a_vector_has_a_row_of_its_own(toy_bundles: Path) -> None:
    users = twhin_client.open(toy_bundles).entities("user")
    for missing in ("zeros", "mean", "learned"):
        kind: Missing = missing  # type: ignore[assignment]
        embedding = FrozenEmbedding.of(users, [*USERS[:5], "nobody", USERS[0]], missing=kind)
        rows = embedding.rows([USERS[2], "nobody", USERS[9], int(USERS[0])])
        assert rows.tolist() == [2, 5, 5, 0]
        assert embedding.known(rows).tolist() == [True, False, False, True]
        vectors = embedding(rows)
        np.testing.assert_array_equal(vectors[[0, 3]].detach().numpy(), users.vectors[[2, 0]])
        absent = users.vectors[:5].mean(axis=0) if missing == "mean" else np.zeros(16)
        np.testing.assert_allclose(vectors[1].detach().numpy(), absent, atol=1e-6)
        assert [name for name, _ in embedding.named_parameters()] == (["absent"] if missing == "learned" else [])
    assert (embedding.version, embedding.dim, len(embedding)) == ("v2", 16, 5)


def test_only_the_row_of_what_is_missing_learns(toy_bundles: Path) -> None:
    embedding = FrozenEmbedding.of(twhin_client.open(toy_bundles).entities("user"), USERS[:5], missing="learned")
    before = embedding.weight.clone()
    optimizer = torch.optim.SGD(embedding.parameters(), lr=0.1)
    (embedding(embedding.rows([*USERS[:5], "nobody"])).sum()).backward()
    optimizer.step()
    assert torch.equal(embedding.weight, before)
    assert torch.allclose(embedding.absent, torch.full((16,), -0.1))
    assert set(embedding.state_dict()) == {"weight", "absent"}


def test_vectors_of_a_service_make_the_same_embedding(client: Client, toy_bundles: Path) -> None:
    asked = [*USERS[:5], "nobody"]
    remote = FrozenEmbedding.of(client.embeddings("user", asked))
    local = FrozenEmbedding.of(twhin_client.open(toy_bundles).entities("user"), asked)
    assert torch.equal(remote.weight, local.weight)
    assert remote.rows(asked).tolist() == local.rows(asked).tolist()
    whole = FrozenEmbedding.of(twhin_client.open(toy_bundles).entities("hashtag"))
    assert len(whole) == 60
    nobody = FrozenEmbedding.of(client.embeddings("user", ["nobody"]))
    assert nobody(nobody.rows(["nobody", USERS[0]])).tolist() == [[0.0] * 16] * 2


def test_a_data_set_feeds_a_loader(toy_bundles: Path) -> None:
    version = twhin_client.open(toy_bundles)
    users, items = (FrozenEmbedding.of(version.entities(name)) for name in ("user", "hashtag"))
    examples = RankingDataset(
        users, items, USERS[:10], ["tag1", "nobody"] * 5, np.arange(10) % 2, np.arange(20).reshape(10, 2)
    )
    seen = list(DataLoader(examples, batch_size=4))
    assert [len(labels) for *_, labels in seen] == [4, 4, 2]
    user_rows, item_rows, others, labels = seen[0]
    assert users(user_rows).shape == (4, 16)
    assert items.known(item_rows).tolist() == [True, False, True, False]
    assert others.tolist() == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert labels.tolist() == [0, 1, 0, 1]
    with pytest.raises(ValueError, match="other lengths|different lengths"):
        RankingDataset(users, items, USERS[:2], ["tag1"], [1, 0])
