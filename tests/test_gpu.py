"""What runs on a GPU gives the CPU's results; a real one where there is one, else a pretended one.

`pytest -k cuda` runs the tests of a real GPU alone.
"""

from dataclasses import replace

import pytest
import torch
from torch import nn

import paperlib as pl
from paperlib import stats
from paperlib.bank import FeatureBank, LinearHead
from paperlib.extraction.options import choose_device
from paperlib.filters import scores
from paperlib.filters.counting import class_statistics
from paperlib.filters.mass import features_for_mass, response_mass
from paperlib.filters.ranking import influential_filters, resampled_filters, subsets_with_dense_rows
from paperlib.filters.sums import class_means, column_deviations
from paperlib.filters.sweeps import influential_by_k, sweep_statistics
from paperlib.filters.tensors import largest_filters, membership, order_keys
from paperlib.heads.accuracy import correct_by_k
from paperlib.heads.decomposed import DecomposedHead
from paperlib.heads.finetune import correct_images, finetune_network
from paperlib.heads.refit import least_squares_refit, mean_fill, softmax_refit
from paperlib.heads.selection import backward_selection, forward_selection
from paperlib.metrics import (
    ablation,
    cards,
    collapse,
    explanation,
    manifold,
    overlap,
    purity,
    selectivity,
    simulatability,
)
from reproduction.runs import runs_of
from tests.pretend_cuda import OnGpu, pretended_gpu, to_cpu, to_gpu

N, D, C, K = 120, 24, 4, 3
GENERATOR = torch.Generator().manual_seed(0)
LABELS = torch.arange(N) % C
# Whole numbers of quarters: features tie often, as dead filters do, and their sums are exact
FEATURES = (torch.rand(N, D, generator=GENERATOR) * 8).floor() / 4
FEATURES += (torch.arange(D) % C == LABELS[:, None]).float()
HEAD = (
    torch.randint(-8, 8, (C, D), generator=GENERATOR) / 8,
    torch.randint(-8, 8, (C,), generator=GENERATOR) / 8,
)
SUBSETS = list(torch.rand(C, D, generator=GENERATOR).argsort(dim=1)[:, :K])
DATA = (FEATURES, LABELS)
LOGITS = FEATURES @ HEAD[0].T + HEAD[1]


@pytest.fixture(params=["pretended", "cuda"])
def gpu(request):
    """(to the GPU, back from it) for tensors in tuples, lists and dicts."""
    if request.param == "pretended":
        with pretended_gpu():
            yield to_gpu, to_cpu
        return
    if not torch.cuda.is_available():
        pytest.skip("no GPU")

    def moved(device):
        def move(x):
            assert not (isinstance(x, torch.Tensor) and device == "cpu") or x.is_cuda
            return x.to(device) if isinstance(x, torch.Tensor) else x

        return lambda given: torch.utils._pytree.tree_map(move, given)

    yield moved("cuda"), moved("cpu")


def statistics_of(x, y):
    return class_statistics(x, y, C, [1, K, 5])


def member_of(subsets):
    return membership(subsets, D)


# Exact wherever it is computed: counts, subsets, whole numbers, decisions
EXACT = {
    "ranking": (lambda x, y: influential_filters(statistics_of(x, y), K), DATA),
    "a share": (lambda x, y: influential_filters(statistics_of(x, y), 0.5), DATA),
    "dense rows": (lambda x, y: subsets_with_dense_rows(class_statistics(x, y, 6, K), K), DATA),
    "histogram": (lambda x, y: statistics_of(x, y).histogram, DATA),
    "totals": (lambda x, y: statistics_of(x, y).totals, DATA),
    "sweep": (lambda x, y: influential_by_k(sweep_statistics(x, y, C, K)), DATA),
    "resampled": (lambda x, y: resampled_filters(x, y, C, K, draws=4), DATA),
    "largest": (lambda x: largest_filters(x, 2), (FEATURES,)),
    "class means": (lambda x, y: class_means(x, y, C), DATA),
    "mass": (lambda x: features_for_mass(x, 0.5), (FEATURES,)),
    "membership": (member_of, (SUBSETS,)),
    "contrast": (
        lambda w, x, y: scores.contrast(w, class_means(x, y, C), x.double().mean(dim=0), K),
        (HEAD[0], *DATA),
    ),
    "magnitude": (lambda w: scores.weight_magnitude(w, K), (HEAD[0],)),
    "W x std": (lambda w, x: scores.weight_times_std(w, x, K), (HEAD[0], FEATURES)),
    "correct by k": (
        lambda x, y, w, b, s: correct_by_k(x, y, w, b, {K: s, 1: [i[:1] for i in s]}),
        (*DATA, *HEAD, SUBSETS),
    ),
    "cut head": (lambda w, b, s: DecomposedHead(w, b, s).weight.detach(), (*HEAD, SUBSETS)),
    "logits": (
        lambda x, w, b, s: DecomposedHead(w, b, s).requires_grad_(False)(x),
        (FEATURES, *HEAD, SUBSETS),
    ),
    "backward selection": (lambda w, b, x, y: backward_selection(w, b, x, y, K), (*HEAD, *DATA)),
    "forward selection": (lambda x, y: forward_selection(x, y, C, K), DATA),
    "noise": (
        lambda x, y, w, b, s: ablation.accuracy_after_ablation(x, y, w, b, s, repeats=3),
        (*DATA, *HEAD, SUBSETS),
    ),
    "mean fill of others": (
        lambda x, y, w, b, s, m: ablation.accuracy_after_ablation(
            x, y, w, b, s, "mean", others=True, means=m
        ),
        (*DATA, *HEAD, SUBSETS, FEATURES.mean(dim=0)),
    ),
    "sufficient": (explanation.sufficient_contributions, (FEATURES, *HEAD)),
    "settled": (explanation.contributions_until_settled, (FEATURES, *HEAD)),
    "silenced": (ablation.decisions_when_silenced, (FEATURES, *HEAD)),
    "repairs": (
        lambda x, y, w, b: tuple(
            ablation.repairs(
                ablation.decisions_when_silenced(x, w, b), (x @ w.T + b).argmax(dim=1), y, w > 0
            )
        ),
        (*DATA, *HEAD),
    ),
    "new errors": (
        lambda x, y, w, b: tuple(
            ablation.new_errors(
                ablation.decisions_when_silenced(x, w, b), (x @ w.T + b).argmax(dim=1), y, w > 0
            )
        ),
        (*DATA, *HEAD),
    ),
    "counting": (
        lambda x, y, s: simulatability.named_by_counting(
            x, simulatability.on_thresholds(x, y, member_of(s)), member_of(s), y
        ),
        (*DATA, SUBSETS),
    ),
    "purity": (lambda x, y: purity.top_image_shares(x, y, C, 10), DATA),
    "AUC": (lambda x, y: purity.one_vs_rest_auc(x, y, C), DATA),
    "one class": (lambda s: purity.serving_one_class(member_of(s)), (SUBSETS,)),
    "shared": (lambda s: overlap.shared_filters(member_of(s)), (SUBSETS,)),
}
# Equal to rounding
CLOSE = {
    "response mass": (response_mass, (FEATURES,)),
    "deviations": (column_deviations, (FEATURES,)),
    "mean fill": (
        lambda w, b, s, x: mean_fill(w, b, s, x).bias.detach(),
        (*HEAD, SUBSETS, FEATURES),
    ),
    "least squares": (
        lambda w, b, s, x: least_squares_refit(w, b, s, x).weight.detach(),
        (*HEAD, SUBSETS, FEATURES),
    ),
    "softmax refit": (
        lambda w, b, s, x, y: softmax_refit(w, b, s, x, y).weight,
        (*HEAD, SUBSETS, *DATA),
    ),
    "information": (lambda s: overlap.mutual_information(member_of(s)), (SUBSETS,)),
    "scatter": (lambda x, y: tuple(collapse.class_scatter(x, y, C)), DATA),
    "variances": (lambda x: manifold.principal_components(x).variances, (FEATURES,)),
    "psi": (lambda x: selectivity.psi(x, 0.5), (FEATURES,)),
    "index": (
        lambda x, y: selectivity.selectivity_index(
            selectivity.bootstrap_class_means(x, y, C, draws=3)
        ),
        DATA,
    ),
    "shares": (lambda w, x, y: cards.logit_shares(w, class_means(x, y, C)), (HEAD[0], *DATA)),
}
# Small results, which come back as numbers
NUMBERS = {
    "cards": (
        lambda x, y, w, s: cards.cards_of(statistics_of(x, y), w, s, K),
        (*DATA, HEAD[0], SUBSETS),
    ),
    "interval": (lambda x: stats.mean_interval(x[:, 0]), (FEATURES,)),
    "smallest": (lambda x: stats.smallest_within(100 * x[0].cumsum(0)).item(), (FEATURES,)),
    "two nn": (lambda x: manifold.two_nn(x), (FEATURES,)),
    "between": (lambda x, y: manifold.between_class_share(x, y, C), DATA),
    "alignment": (
        lambda w: manifold.alignment(
            manifold.decision_directions(w), manifold.decision_directions(w)
        ),
        (HEAD[0],),
    ),
    "head": (lambda x, y, logits: FeatureBank(x, logits, y).head_fit(), (*DATA, LOGITS)),
}


@pytest.mark.parametrize("name", EXACT)
def test_counts_subsets_and_decisions_are_the_cpus(name, gpu):
    function, arguments = EXACT[name]
    there, back = gpu
    expected, found = function(*arguments), back(function(*there(arguments)))
    for one, other in zip(*map(torch.utils._pytree.tree_leaves, (expected, found)), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", CLOSE)
def test_measures_are_the_cpus_to_rounding(name, gpu):
    function, arguments = CLOSE[name]
    there, back = gpu
    torch.testing.assert_close(back(function(*there(arguments))), function(*arguments))


@pytest.mark.parametrize("name", NUMBERS)
def test_small_results_come_back_as_numbers(name, gpu):
    function, arguments = NUMBERS[name]
    there, _ = gpu
    expected, found = function(*arguments), function(*there(arguments))
    assert torch.utils._pytree.tree_leaves(found) == pytest.approx(
        torch.utils._pytree.tree_leaves(expected), rel=1e-6, abs=1e-5
    )


@pytest.mark.parametrize("draw", [scores.random_subsets, manifold.random_directions])
def test_random_draws_are_the_same_on_every_device(draw, gpu):
    shape = (C, D, K) if draw is scores.random_subsets else (D,)
    there = gpu[1](draw(*shape, draws=2, seed=1, device="cuda"))
    for one, other in zip(there, draw(*shape, draws=2, seed=1), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_the_front_door_runs_where_the_bank_is(gpu, small_bank):
    there = small_bank.to("cuda")
    assert there.to("cuda") is there and there.head.weight.is_cuda
    results = []
    for bank in (small_bank, there):
        train, test = bank.split("train"), bank.split("test")
        subsets = pl.influential(train, k=2)
        assert (
            subsets[0].device == train.features.device == pl.backward_selection(train, 2)[0].device
        )
        head = pl.refit(train, subsets)
        numbers = (
            pl.accuracy(head, test),
            pl.accuracy(pl.decompose(bank, subsets), bank),
            pl.random_baseline(train, test, k=2, draws=2),
        )
        results.append((numbers, pl.class_cards(bank, subsets)))
    for one, other in zip(*map(torch.utils._pytree.tree_leaves, results), strict=True):
        assert other == pytest.approx(one, rel=1e-5)


def test_a_bank_keeps_its_recovered_head_and_its_blocks_on_the_way(gpu):
    bank = FeatureBank(FEATURES, LOGITS, LABELS, blocks={"b": FEATURES.half()})
    before = bank.head
    there = bank.to("cuda")
    assert there.stored_head is None and there.blocks["b"].is_cuda and there.logits.is_cuda
    assert torch.equal(there.head.weight.cpu(), before.weight)
    assert torch.equal(there.without_empty_classes().split("train").labels.cpu(), LABELS)
    wider = FeatureBank(FEATURES, LOGITS, LABELS.clamp(max=1), stored_head=LinearHead(*HEAD))
    assert wider.to("cuda").without_empty_classes().num_classes == 2
    stored = replace(bank, stored_head=LinearHead(*HEAD)).to("cuda")
    assert torch.equal(stored.head.bias.cpu(), HEAD[1])


def test_the_dense_matrix_is_kept_on_a_gpu_until_the_weights_change(gpu):
    there, _ = gpu
    head = DecomposedHead(*there((*HEAD, SUBSETS)))
    x = there(FEATURES)
    with torch.no_grad():
        first, kept = head(x), head._cached[1]
        assert torch.equal(head(x).cpu(), first.cpu()) and head._cached[1] is kept
        head.values.mul_(2)
        head.bias.zero_()
        expected = DecomposedHead(2 * HEAD[0], 0 * HEAD[1], SUBSETS)(FEATURES)
        assert torch.equal(head(x).cpu(), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_selection_among_keys_is_the_stable_sort(dtype):
    """What ranks where few are wanted, with ties, signs, both zeros, denormals and the extremes."""
    x = torch.randint(-3, 4, (50, 64), generator=GENERATOR).to(dtype)
    x[:, 0], x[:, 1], x[:, 2] = -0.0, 0.0, torch.finfo(dtype).tiny / 2
    x[0, 5], x[1, 5] = torch.finfo(dtype).max, torch.finfo(dtype).min
    for k in (1, 7, 64):
        in_order = x.sort(dim=1, descending=True, stable=True).indices[:, :k]
        assert torch.equal(order_keys(x).topk(k, dim=1).indices, in_order)
        assert torch.equal(largest_filters(x, k), in_order)


def test_the_pretended_gpu_refuses_what_a_gpu_refuses():
    with pretended_gpu():
        x = torch.ones(3, device="cuda")
        for refused in (lambda: x + torch.ones(3), x.numpy, lambda: torch.cat([x, torch.ones(1)])):
            with pytest.raises((RuntimeError, TypeError)):
                refused()
        assert isinstance(x.double().new_zeros(2), OnGpu) and x.sum().item() == 3
        assert (x + torch.tensor(1.0)).tolist() == [2, 2, 2]
    with pytest.raises(TypeError, match="came back on the CPU"):
        to_cpu([torch.ones(1)])


def small_network(bias=True):
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 6), nn.ReLU(), nn.Linear(6, 3, bias=bias))


IMAGES = [(torch.rand(3, 2, 2, generator=GENERATOR), i % 3) for i in range(12)]


def test_correct_images_gives_the_network_back_as_it_was():
    model = small_network()
    model[1].eval()
    for device in ("auto", "cpu", *(["cuda"] if torch.cuda.is_available() else [])):
        right = correct_images(model, IMAGES, device=device)
        assert right.device.type == "cpu" and len(right) == len(IMAGES)
    assert model.training and model[0].training and not model[1].training
    assert not model[3].weight.is_cuda and not model[3].weight.is_inference()


def test_a_head_without_bias_is_fine_tuned_on_the_device_that_is_there():
    subsets = [torch.tensor([0, 1]), torch.tensor([2]), torch.tensor([3, 5])]
    model = small_network(bias=False)
    tuned = finetune_network(model, "3", subsets, IMAGES, progress=False)
    assert isinstance(model[3], nn.Linear) and model[3].bias is None
    assert tuned[3].values.device.type == choose_device().type and tuned[3].bias.any()


@pytest.mark.filterwarnings("ignore:'pin_memory' argument")  # a pretended GPU pins nothing
def test_fine_tuning_on_the_gpu_is_the_cpus(gpu):
    """Forward, backward and the optimiser's steps: no tensor of either device meets the other."""
    subsets = [torch.tensor([0, 1]), torch.tensor([2]), torch.tensor([3, 5])]
    model = small_network()
    on_cpu, on_gpu = (
        finetune_network(
            model, "3", subsets, IMAGES, batch_size=4, device=device, progress=False
        ).state_dict()
        for device in ("cpu", "cuda")
    )
    assert all(tensor.is_cuda for tensor in on_gpu.values())
    assert not torch.equal(on_cpu["1.weight"], model[1].weight)
    for name, tensor in on_cpu.items():
        torch.testing.assert_close(on_gpu[name].cpu(), tensor)


class NoStream:
    """Where nothing runs beside the CPU, all that was recorded has happened."""

    def record_event(self):
        return self

    def synchronize(self):
        pass


@pytest.mark.filterwarnings("ignore:'pin_memory' argument")
def test_extraction_on_the_gpu_gives_the_cpus_bank(gpu, monkeypatch):
    if not torch.cuda.is_available():
        monkeypatch.setattr(torch.cuda, "current_stream", lambda device: NoStream())
    model = small_network()
    here, there = (
        pl.extract(
            model, train=IMAGES, test=IMAGES, device=device, batch_size=5, workers=0, progress=False
        )
        for device in ("cpu", "cuda")
    )
    torch.testing.assert_close(there.features, here.features)
    torch.testing.assert_close(there.logits, here.logits)
    assert torch.equal(there.labels, here.labels)
    assert torch.equal(there.split_codes, here.split_codes)


@pytest.mark.parametrize("tier", ["cifar10", "embedded"])
def test_training_runs_lie_where_the_banks_are(tier, small_bank, gpu):
    expected = next(iter(runs_of(tier, {"resnet20": small_bank}).values()))
    found = next(iter(runs_of(tier, {"resnet20": small_bank.to("cuda")}).values()))
    assert torch.equal(found.bank.features.cpu(), expected.bank.features)
    for part in (found.bank.features, found.bank.head.weight, found.statistics.whole):
        assert part.device.type == "cuda"
    assert found.scatter.within.device.type == "cuda"
    assert torch.equal(found.statistics.histogram.cpu(), expected.statistics.histogram)
