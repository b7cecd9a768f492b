"""A CLIP's text transformer that takes embeddings in place of words, so that prompts can learn.

The arithmetic is that of transformers' `CLIPTextModelWithProjection` in evaluation mode, in
float32 on the CPU and with the weights frozen. Attention is causal, which saves most of the
work: texts that begin alike are one row, in which the beginning stands once (`Bundle`), and the
last layer is computed only where a text ends.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from medfocus_pipeline.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Bundle:
    """K texts of one beginning, laid in one row: the beginning, then the rest of each text.

    Attributes:
        start: ``(1, w) float32``, embedding of the start of text; the rest of the beginning is
            the context. P is their number of tokens.
        rests: ``(T - P, w) float32``, embeddings of the rests, one behind the other.
        positions: ``(T, w) float32``, position embeddings; each rest goes on at P.
        mask: ``(T, T) float32``, 0 where a token is seen, -inf where it is not: a token sees
            itself and what stands before it in its own text.
        ends: ``(K,) int64``, where in the row each text ends.
    """

    start: "Tensor"
    rests: "Tensor"
    positions: "Tensor"
    mask: "Tensor"
    ends: "Tensor"


@dataclass(frozen=True, slots=True)
class Layer:
    """Weights of one transformer layer; pairs are weight and bias."""

    norms: tuple[tuple["Tensor", "Tensor"], tuple["Tensor", "Tensor"]]
    query: tuple["Tensor", "Tensor"]
    key_value: tuple["Tensor", "Tensor"]
    out: tuple["Tensor", "Tensor"]
    widen: tuple["Tensor", "Tensor"]
    narrow: tuple["Tensor", "Tensor"]


@dataclass(frozen=True, slots=True)
class PromptTower:
    """A frozen text tower of width w, into a space of d dimensions.

    No tensor of it requires a gradient; what is fed to it may.

    Attributes:
        temperature: of the softmax over cosines that the encoder was trained with.
        vocabulary: ``(V, w) float32`` token embeddings.
        positions: ``(L, w) float32`` position embeddings of the L tokens that it takes.
        layers: of the transformer.
        norm: after the last layer.
        projection: ``(d, w) float32``.
        heads: of the attention.
        epsilon: of the layer norms.
        activation: between `Layer.widen` and `Layer.narrow`.
        tokenise: texts -> ids of each with start and end, cut to L.
        end_id: the token where a text ends; None is the greatest id of a text, which is how
            CLIP's first configurations have it.
    """

    temperature: float
    vocabulary: "Tensor"
    positions: "Tensor"
    layers: tuple[Layer, ...]
    norm: tuple["Tensor", "Tensor"]
    projection: "Tensor"
    heads: int
    epsilon: float
    activation: "Callable[[Tensor], Tensor]"
    tokenise: Callable[[list[str]], list[list[int]]]
    end_id: int | None

    @property
    def width(self) -> int:
        """w, of a token's embedding."""
        return self.vocabulary.shape[1]

    @property
    def dim(self) -> int:
        """d, of a text's feature."""
        return self.projection.shape[0]

    @property
    def length(self) -> int:
        """L, tokens that it takes, start and end among them."""
        return self.positions.shape[0]

    def words(self, text: str) -> "Tensor":
        """``(t, w) float32``, embeddings of a text's tokens without its start and end."""
        return self.vocabulary[self.tokenise([text])[0][1:-1]]

    def embed(self, texts: Sequence[str]) -> "tuple[Tensor, Tensor]":
        """Token embeddings of texts, as `encode` takes them.

        Returns:
            ``(n, t, w) float32``, filled up with zeros behind each text's end, t the longest's
            length; and ``(n,) int64``, where each ends.
        """
        import torch
        from torch.nn.utils.rnn import pad_sequence

        ids = self._until_the_end(texts)
        rows = pad_sequence([self.vocabulary[one] for one in ids], batch_first=True)
        return rows, torch.tensor([len(one) - 1 for one in ids])

    def bundle(self, texts: Sequence[str], *, context: int) -> Bundle:
        """Texts that go on behind the start of text and `context` learned tokens.

        Raises:
            DataError: context and text are longer than the tower takes.
        """
        import torch

        ids, beginning = self._until_the_end(texts), 1 + context
        rests = [one[1:] for one in ids]
        longest = beginning + max(map(len, rests))
        if longest > self.length:
            raise DataError(
                f"Prompts with {context} context tokens have up to {longest} tokens, the text "
                f"tower takes {self.length}. Use a shorter context, or shorter class prompts "
                "on the data set's card."
            )
        owner = torch.tensor([-1] * beginning + [k for k, rest in enumerate(rests) for _ in rest])
        place = [*range(beginning), *(beginning + i for rest in rests for i in range(len(rest)))]
        seen = (owner == owner[:, None]) | (owner == -1)
        mask = torch.where(seen.tril(), 0.0, -torch.inf)
        return Bundle(
            start=self.vocabulary[ids[0][:1]],
            rests=self.vocabulary[[token for rest in rests for token in rest]],
            positions=self.positions[place],
            mask=mask,
            ends=beginning - 1 + torch.tensor([len(rest) for rest in rests]).cumsum(0),
        )

    def encode(self, embeddings: "Tensor", ends: "Tensor") -> "Tensor":
        """Features of texts given as token embeddings.

        Args:
            embeddings: ``(n, t, w) float32`` without positions, t <= L.
            ends: ``(n,) int64``, the token of each text that is its feature.

        Returns:
            ``(n, d) float32``, projected, not normalised; differentiable in `embeddings`.
        """
        import torch

        tokens = embeddings.shape[1]
        mask = torch.full((tokens, tokens), -torch.inf).triu(1)
        return self._transform(embeddings + self.positions[:tokens], mask, ends[:, None])[:, 0]

    def encode_bundle(self, context: "Tensor", bundle: Bundle) -> "Tensor":
        """Features of the K texts of a bundle behind each of g contexts.

        Args:
            context: ``(g, M, w) float32``, M = P - 1.
            bundle: of this tower, for M context tokens.

        Returns:
            ``(g, K, d) float32``, projected, not normalised; differentiable in `context`.
        """
        import torch

        rows = len(context)
        start, rests = (part.expand(rows, -1, -1) for part in (bundle.start, bundle.rests))
        states = torch.cat([start, context, rests], dim=1) + bundle.positions
        return self._transform(states, bundle.mask, bundle.ends.expand(rows, -1))

    def _until_the_end(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text up to the token that is its feature; nothing behind it matters."""
        every = self.tokenise(list(texts))
        last = [max(ids) if self.end_id is None else self.end_id for ids in every]
        return [ids[: ids.index(end) + 1] for ids, end in zip(every, last, strict=True)]

    def _transform(self, states: "Tensor", mask: "Tensor", ends: "Tensor") -> "Tensor":
        """``(g, T, w)`` with positions, ``(T, T)`` mask, ``(g, E)`` ends -> ``(g, E, d)``."""
        from torch.nn.functional import layer_norm, linear

        for layer in self.layers[:-1]:
            states = self._layer(layer, states, states, mask)
        index = ends[..., None].expand(-1, -1, self.width)
        kept = self._layer(self.layers[-1], states.gather(1, index), states, mask[ends][:, None])
        return linear(layer_norm(kept, (self.width,), *self.norm, self.epsilon), self.projection)

    def _layer(self, layer: Layer, asking: "Tensor", states: "Tensor", mask: "Tensor") -> "Tensor":
        """One layer for the rows that ask, ``(g, E, w)``, among all of them, ``(g, T, w)``."""
        from torch.nn.functional import layer_norm, linear, scaled_dot_product_attention

        def normed(rows: "Tensor", which: int) -> "Tensor":
            return layer_norm(rows, (self.width,), *layer.norms[which], self.epsilon)

        def split(rows: "Tensor") -> "Tensor":
            return rows.view(len(rows), -1, self.heads, self.width // self.heads).transpose(1, 2)

        seen = normed(states, 0)
        query = linear(seen if asking is states else normed(asking, 0), *layer.query)
        key, value = linear(seen, *layer.key_value).chunk(2, dim=2)
        heard = scaled_dot_product_attention(split(query), split(key), split(value), mask)
        asking = asking + linear(heard.transpose(1, 2).flatten(2), *layer.out)
        hidden = self.activation(linear(normed(asking, 1), *layer.widen))
        return asking + linear(hidden, *layer.narrow)
