"""The decomposed head and its repairs, on heads whose right answer is known."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

import paperlib as pl
from paperlib.filters.counting import class_statistics
from paperlib.filters.ranking import influential_filters
from paperlib.heads import refit
from paperlib.heads.accuracy import correct_by_k
from paperlib.heads.decomposed import DecomposedHead
from paperlib.heads.finetune import correct_images, finetune_network
from paperlib.heads.refit import least_squares_refit, mean_fill, softmax_refit

WEIGHT = torch.tensor([[1.0, 2.0, 0.5], [-1.0, 0.0, 3.0]])
BIAS = torch.tensor([0.5, -0.5])
SUBSETS = [torch.tensor([1]), torch.tensor([2, 0])]  # of different sizes


def test_each_class_reads_only_its_own_filters():
    head = DecomposedHead(WEIGHT, BIAS, SUBSETS)
    x = torch.tensor([[10.0, 1.0, 2.0]])
    assert head(x).tolist() == [[2.0 * 1 + 0.5, -1.0 * 10 + 3.0 * 2 - 0.5]]
    assert head.weight.tolist() == [[0.0, 2.0, 0.0], [-1.0, 0.0, 3.0]]


def test_all_filters_give_the_dense_head_exactly(resnet20):
    dense = nn.Linear(64, 10)
    everything = [torch.arange(64).flip(0)] * 10
    head = DecomposedHead(dense.weight, dense.bias, everything)
    assert torch.equal(head(resnet20.features), dense(resnet20.features))


def test_state_dict_round_trip_and_training_keep_the_subsets():
    head = DecomposedHead(WEIGHT, BIAS, SUBSETS)
    other = DecomposedHead(torch.zeros(2, 3), torch.zeros(2), [torch.tensor([0]), torch.arange(2)])
    other.load_state_dict(head.state_dict())
    assert torch.equal(other.weight, head.weight)
    assert [name for name, _ in head.named_parameters()] == ["values", "bias"]
    optimizer = torch.optim.SGD(head.parameters(), lr=1.0)
    head(torch.ones(4, 3)).sum().backward()
    optimizer.step()
    assert ((head.weight == 0) == (other.weight == 0)).all()
    assert not torch.equal(head.weight, other.weight)


def test_a_state_dict_brings_its_own_sizes():
    weight, bias = torch.rand(3, 8), torch.rand(3)
    given, other = (
        DecomposedHead(weight, bias, [torch.tensor(filters) for filters in chosen])
        for chosen in ([[0, 1, 2], [3], [4, 5]], [[0], [1, 2, 3], [6, 7]])
    )
    other.load_state_dict(given.state_dict())
    assert torch.equal(other.weight, given.weight)
    state = given.state_dict()
    for wrong in ({"columns": state["columns"] + 8}, {"starts": state["starts"].flip(0)}):
        with pytest.raises(ValueError, match="the state dict holds no rows of 8 filters"):
            other.load_state_dict(state | wrong)


def test_a_state_dict_brings_another_number_of_weights():
    weight, bias = torch.rand(3, 8), torch.rand(3)
    given, other = (DecomposedHead(weight, bias, [torch.arange(k)] * 3) for k in (5, 2))
    with torch.no_grad():
        other(torch.ones(1, 8))  # keeps a dense matrix, which must not stay
    model = nn.Sequential(other)
    model.load_state_dict({f"0.{key}": value for key, value in given.state_dict().items()})
    assert torch.equal(other.weight, given.weight)
    x = torch.rand(4, 8)
    with torch.no_grad():
        assert torch.equal(other(x), given(x))
    other(x).sum().backward()
    assert other.values.grad.shape == (15,)
    before, fewer = other.weight, DecomposedHead(weight[:2], bias[:2], [torch.arange(4)] * 2)
    with pytest.raises(RuntimeError, match="size mismatch for starts"):
        other.load_state_dict(fewer.state_dict())
    assert torch.equal(other.weight, before)
    prune.l1_unstructured(other, "values", 1)
    with torch.no_grad():
        assert (other(x) != given(x)).any()


EDITS = {
    "an entry": lambda w: w.__setitem__((0, 1), 0.0),
    "in place": lambda w: w.zero_(),
    "its data": lambda w: w.data.zero_(),
    "other data": lambda w: setattr(w, "data", torch.zeros_like(w)),
    "a row": lambda w: w[0].fill_(1.0),
    "each row": lambda w: [row.mul_(2) for row in w],
    "transposed": lambda w: w.T.__setitem__(0, 0.0),
    "initialised": nn.init.normal_,
    "augmented": lambda w: w.__iadd__(1),
    "frozen": lambda w: w.requires_grad_(False),
}


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_an_edit_that_would_be_lost_is_refused(edit, mode):
    head = DecomposedHead(WEIGHT, BIAS, SUBSETS)
    with mode(), pytest.raises(RuntimeError, match="lie in `values`"):
        edit(head.weight)
    with mode(), pytest.raises(AttributeError, match="lie in `values`"):
        head.weight = nn.Parameter(torch.zeros(2, 3))


def test_the_weight_can_be_computed_with_and_copied():
    head = DecomposedHead(WEIGHT, BIAS, SUBSETS)
    (head.weight**2).sum().backward()
    assert torch.equal(head.values.grad, 2 * head.values)
    copied = head.weight.detach()
    copied[0] = 7.0
    assert type(head.weight @ WEIGHT.T) is torch.Tensor and head.weight[0].tolist() == [0, 2, 0]


def test_without_filters_and_as_a_dense_layer():
    head = DecomposedHead(WEIGHT, BIAS, SUBSETS)
    assert head.without([1, 2]).weight.tolist() == [[0.0, 0.0, 0.0], [-1.0, 0.0, 0.0]]
    with pytest.raises(ValueError, match=r"filters must lie in 0\.\.2"):
        head.without([3])
    x, state = torch.rand(4, 3), torch.get_rng_state()
    dense = head.to_linear()
    assert torch.equal(torch.get_rng_state(), state)
    assert (dense.in_features, dense.out_features) == (head.in_features, head.out_features)
    assert torch.equal(dense(x), head(x)) and dense.weight.requires_grad


def test_a_network_with_a_decomposed_head_is_extracted():
    head = DecomposedHead(WEIGHT, BIAS, SUBSETS)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 3), nn.ReLU(), head)
    images = torch.rand(6, 3, 2, 2), torch.arange(6) % 2
    bank = pl.extract(model, train=images, progress=False)
    assert torch.equal(bank.head.weight, head.weight) and torch.equal(bank.head.bias, head.bias)
    assert torch.allclose(bank.features, model[:3](images[0]), atol=1e-6)


def test_a_small_head_keeps_its_dense_matrix_until_the_weights_change():
    head, x = DecomposedHead(WEIGHT, BIAS, SUBSETS), torch.rand(4, 3)
    optimizer = torch.optim.SGD(head.parameters(), lr=1.0)
    other = DecomposedHead(2 * WEIGHT, BIAS, [torch.tensor([0]), torch.tensor([0, 1])])

    def step():
        head(x).square().sum().backward()
        optimizer.step()

    changes = (
        lambda: head.values.mul_(2),
        lambda: head.values.data.mul_(2),  # seen by no version counter
        lambda: setattr(head.values, "data", head.values.data * 2),
        lambda: setattr(head, "values", nn.Parameter(torch.ones(3))),
        torch.enable_grad()(step),
        lambda: head.load_state_dict(other.state_dict()),
        lambda: head.half().float(),
    )
    with torch.no_grad():
        for change in changes:
            head(x)
            kept = head._cached[2]
            assert head(x) is not None and head._cached[2] is kept
            change()
            assert torch.equal(head(x), nn.functional.linear(x, head.weight, head.bias))
        twin = copy.deepcopy(head)
        twin.values.data.zero_()
        assert torch.equal(twin(x), twin.bias.expand(4, 2)) and not torch.equal(head(x), twin(x))


def test_a_head_made_in_inference_mode_learns():
    with torch.inference_mode():
        head = DecomposedHead(WEIGHT.clone(), BIAS.clone(), SUBSETS)
        head(torch.ones(1, 3))
    head(torch.ones(1, 3)).sum().backward()
    assert head.values.grad.tolist() == [1.0, 1.0, 1.0]
    frozen, x = head.requires_grad_(False), torch.ones(1, 3, requires_grad=True)
    frozen(x).sum().backward()
    assert torch.equal(x.grad[0], frozen.weight.sum(dim=0))


def test_a_head_is_compiled_and_exported():
    head, x = DecomposedHead(WEIGHT, BIAS, SUBSETS), torch.rand(4, 3)
    compiled = torch.compile(head, backend="aot_eager")
    for mode in (torch.enable_grad, torch.no_grad):
        with mode():
            expected = head(x)
            assert torch.equal(torch.export.export(head, (x,)).module()(x), expected)
            assert torch.equal(compiled(x), expected)


def test_bad_subsets_are_named():
    with pytest.raises(ValueError, match="1 subsets for a head of 2 classes"):
        DecomposedHead(WEIGHT, BIAS, SUBSETS[:1])
    with pytest.raises(ValueError, match=r"class 1: filters must lie in 0\.\.2"):
        DecomposedHead(WEIGHT, BIAS, [torch.tensor([0]), torch.tensor([-1])])


def test_correct_by_k_by_hand():
    x, y = (
        torch.tensor([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [2.0, 0.0, 1.0]]),
        torch.tensor([0, 1, 0]),
    )
    subsets = {2: SUBSETS, 3: [torch.arange(3)] * 2}
    # k = 3: logits [2.5, -.5], [1, 2.5], [3, .5]; cut: [2.5, -.5], [.5, 2.5], [.5, .5] (tie: first)
    assert correct_by_k(x, y, WEIGHT, BIAS, subsets).tolist() == [[True] * 3, [True] * 3]
    wrong = {1: [torch.tensor([0]), torch.tensor([0])]}  # logits [.5, -.5], [.5, -.5], [2.5, -2.5]
    assert correct_by_k(x, y, WEIGHT, BIAS, wrong).double().mean().item() == pytest.approx(2 / 3)


def test_mean_fill_adds_the_omitted_means_to_the_bias():
    train = torch.tensor([[1.0, 2.0, 3.0], [3.0, 4.0, 5.0]])  # means 2, 3, 4
    head = mean_fill(WEIGHT, BIAS, SUBSETS, train)
    assert head.bias.tolist() == [0.5 + 1.0 * 2 + 0.5 * 4, -0.5 + 0.0 * 3]
    assert torch.equal(head.weight, DecomposedHead(WEIGHT, BIAS, SUBSETS).weight)


SPREAD = [torch.tensor([0, 3]), torch.tensor([5]), torch.arange(6), torch.tensor([1, 2, 4])]


def random_problem():
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(300, 6, generator=generator)
    return x, torch.randn(4, 6, generator=generator), torch.randn(4, generator=generator)


def test_least_squares_equals_a_direct_solve():
    x, weight, bias = random_problem()
    head = least_squares_refit(weight, bias, SPREAD, x)
    logits = x @ weight.T + bias
    for c, chosen in enumerate(SPREAD):
        design = torch.cat([x[:, chosen], torch.ones(300, 1)], dim=1).double()
        expected = torch.linalg.lstsq(design, logits[:, c].double()).solution.float()
        assert torch.allclose(head.weight[c, chosen], expected[:-1], atol=1e-4)
        assert torch.allclose(head.bias[c], expected[-1], atol=1e-4)


def test_least_squares_does_not_mind_where_features_lie():
    x, weight, bias = random_problem()
    plain = least_squares_refit(weight, bias, SPREAD, x)
    moved = least_squares_refit(weight.double(), bias.double(), SPREAD, x.double() + 1e6)
    assert torch.allclose(moved.weight.float(), plain.weight, atol=1e-5)


def test_least_squares_survives_a_dead_filter():
    x, weight, bias = random_problem()
    x[:, 3] = 0.0
    head = least_squares_refit(weight, bias, [torch.tensor([0, 3])] * 4, x)
    assert torch.isfinite(head.weight).all() and head.weight[:, 3].abs().max() < 1e-6


def test_softmax_refit_reaches_the_optimum():
    """At the minimum of a convex loss the gradient vanishes, whatever the starting weights."""
    x, weight, bias = random_problem()
    labels = (x @ weight.T).argmax(dim=1)
    labels[:4] = torch.arange(4)  # no class without images: it would keep its weights
    subsets = [torch.tensor([0, 3, 5])] * 4
    l2 = 1e-2
    head = softmax_refit(weight, bias, subsets, x, labels, l2=l2)
    other = softmax_refit(torch.zeros(4, 6), torch.zeros(4), subsets, x, labels, l2=l2)
    assert torch.allclose(head.weight, other.weight, atol=1e-3)
    head.requires_grad_(True)
    loss = nn.functional.cross_entropy(head(x), labels) + l2 / 2 * head.values.square().sum()
    loss.backward()
    assert head.values.grad.abs().max() < 1e-5 and head.bias.grad.abs().max() < 1e-5
    assert loss < nn.functional.cross_entropy(DecomposedHead(weight, bias, subsets)(x), labels)


@pytest.mark.parametrize("scale", [1e-5, 1e5])
def test_softmax_refit_does_not_mind_the_size_of_features(scale):
    x, weight, bias = random_problem()
    labels = (x @ weight.T + torch.rand(4)).argmax(dim=1)
    subsets = [torch.tensor([0, 3, 5])] * 4
    plain = softmax_refit(weight, bias, subsets, x, labels)
    scaled = softmax_refit(weight / scale, bias, subsets, x * scale, labels, l2=1e-3 * scale**2)
    assert torch.allclose(scaled.weight * scale, plain.weight, rtol=1e-2, atol=1e-2)
    x[:, 1] /= scale**2  # of any size, since no class reads it
    beside = softmax_refit(weight / scale, bias, subsets, x * scale, labels, l2=1e-3 * scale**2)
    assert torch.equal(beside.weight, scaled.weight)


def test_softmax_refit_in_blocks_finds_the_same_head(monkeypatch):
    """Images in blocks, and float32 products as for large problems, lead to the same optimum."""
    x, weight, bias = random_problem()
    labels = torch.where(
        torch.arange(300) < 200, (x @ weight.T).argmax(dim=1), torch.arange(300) % 4
    )
    whole = softmax_refit(weight, bias, SPREAD, x, labels)
    monkeypatch.setattr(refit, "ROWS_AT_ONCE", 7)
    blocks = softmax_refit(weight, bias, SPREAD, x, labels)
    monkeypatch.setattr(refit, "SMALL_PROBLEM", 0)
    single = softmax_refit(weight, bias, SPREAD, x, labels)
    for head in (blocks, single):
        assert torch.allclose(head.weight, whole.weight, atol=2e-3)
        assert torch.allclose(head.bias, whole.bias, atol=2e-3)


def test_refits_leave_threads_and_inputs_alone():
    x, weight, bias = random_problem()
    before, threads = weight.clone(), torch.get_num_threads()
    softmax_refit(weight, bias, [torch.arange(2)] * 4, x, torch.arange(300) % 4)
    assert torch.equal(weight, before) and torch.get_num_threads() == threads


def test_finetuning_changes_a_copy_and_learns():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    x = torch.randn(400, 8)
    dataset = list(zip(x, (x[:, 0] > 0).long(), strict=True))
    settings = {"epochs": 15, "learning_rate": 0.1, "batch_size": 20, "progress": False}
    subsets = [torch.tensor([0, 1, 2]), torch.tensor([3, 4, 5])]
    tuned, again = (finetune_network(model, "3", subsets, dataset, **settings) for _ in range(2))
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert isinstance(tuned[3], DecomposedHead) and isinstance(model[3], nn.Linear)
    assert correct_images(tuned, dataset).double().mean() > 0.9
    assert torch.equal(tuned[1].weight, again[1].weight)
    with pytest.raises(ValueError, match="must be positive"):
        finetune_network(model, "3", subsets, dataset, epochs=0)


def test_a_known_head_gives_back_its_filters():
    """Each class fires two filters of its own: the ranking must find exactly these."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(200) % 4
    own = torch.tensor([[6, 1], [0, 4], [2, 7], [3, 5]])
    features = torch.rand(200, 8, generator=generator)
    features.scatter_add_(1, own[labels], torch.full((200, 2), 2.0))
    found = influential_filters(class_statistics(features, labels, 4, 2), 2)
    assert [set(s.tolist()) for s in found] == [set(s) for s in own.tolist()]


def large_head(k, uneven=0):
    """A head above LARGE_HEAD, k filters per class, the first class with `uneven` more."""
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(600, 512, generator=generator), torch.randn(600, generator=generator)
    order = torch.rand(600, 512, generator=generator).argsort(dim=1)
    subsets = [filters[: k + uneven * (c == 0)] for c, filters in enumerate(order)]
    return DecomposedHead(weight, bias, subsets), torch.rand(150, 512, generator=generator)


@pytest.mark.parametrize("batch", [0, 1, 5, 6, 32, 33, 150])
@pytest.mark.parametrize(("k", "uneven"), [(7, 0), (30, 3), (1, -1)])
def test_sparse_inference_gives_the_dense_logits(batch, k, uneven):
    head, x = large_head(k, uneven)
    assert head.sparse
    x = x[:batch]
    dense = head(x)  # with gradients
    assert dense.requires_grad
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            sparse = head(x)
        assert not sparse.requires_grad and sparse.shape == dense.shape
        assert torch.allclose(sparse, dense.detach(), atol=1e-5)
        with mode():
            columns = head(x.T.contiguous().T)
            assert torch.equal(columns, sparse)


def test_sparse_inference_follows_training_and_loading():
    head, x = large_head(5)
    other, _ = large_head(5)
    with torch.no_grad():
        before = head(x)
        head.values.mul_(2), head.bias.mul_(2)
        assert torch.allclose(head(x), 2 * before, atol=1e-5)
        other.load_state_dict(head.state_dict())
        assert torch.equal(other(x), head(x))
        twin = copy.deepcopy(other)
        twin.values.mul_(0.5), twin.bias.mul_(0.5)
        assert torch.allclose(twin(x), before, atol=1e-5) and torch.equal(other(x), head(x))
        twin.values.data = other.values.data.clone()  # other memory, the same values
        twin.bias = torch.nn.Parameter(other.bias.clone())
        assert torch.equal(twin(x), other(x))
        twin.load_state_dict(other.state_dict(), assign=True)
        assert torch.equal(twin(x), other(x))
        double = head.double()(x.double())  # the dense path
        assert torch.allclose(double.float(), 2 * before, atol=1e-5)
    with torch.no_grad(), pytest.raises(ValueError, match="the head reads 512 features, got 511"):
        other(x[:, :-1])


@pytest.mark.filterwarnings("ignore:.*jit.trace:FutureWarning")
@pytest.mark.filterwarnings("ignore:.*jit.trace:DeprecationWarning")
def test_a_traced_head_keeps_no_logits_of_its_example():
    head, x = large_head(5)
    with torch.no_grad():
        traced = torch.jit.trace(head.eval(), x[:2])
        assert torch.allclose(traced(x[50:60]), head(x[50:60]), atol=1e-5)


def test_a_sweep_over_no_k_is_empty():
    head, x = large_head(5)
    labels = torch.zeros(len(x), dtype=torch.int64)
    assert correct_by_k(x, labels, head.weight, head.bias, {}).shape == (0, 150)


def test_features_with_a_gradient_can_be_refitted():
    x, weight, bias = random_problem()
    subsets = [torch.arange(3)] * 4
    labels = torch.arange(len(x)) % 4
    head = softmax_refit(weight, bias, subsets, x.requires_grad_(), labels)
    assert head.values.is_leaf


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.inference_mode])
def test_a_refit_can_be_trained_on(mode):
    x, weight, bias = random_problem()
    with mode():
        head = softmax_refit(weight, bias, SPREAD, x, torch.arange(300) % 4)
    nn.functional.cross_entropy(head(x), torch.zeros(300, dtype=torch.int64)).backward()
    assert head.values.grad.abs().max() > 0 and head.bias.grad.abs().max() > 0


def test_all_filters_of_a_large_head_give_the_dense_head_exactly():
    head, x = large_head(512)
    assert not head.sparse
    with torch.no_grad():
        assert torch.equal(head(x), nn.functional.linear(x, head.weight, head.bias))


@pytest.mark.parametrize("images", [0, 1, 33, 150])
def test_a_sweep_of_large_heads_equals_head_by_head(images):
    """k up to 40 skips what is cut, k = 300 does not; two equal classes tie to the lower."""
    head, x = large_head(512)
    weight, bias = head.weight.detach(), head.bias.detach()
    weight[9], bias[9] = weight[4], bias[4] + 20
    bias[4] += 20
    order = weight.argsort(dim=1)
    order[9] = order[4]
    subsets = {k: list(order[:, :k]) for k in (0, 5, 40, 300)}
    with torch.no_grad():
        each = [DecomposedHead(weight, bias, s)(x[:images]).argmax(dim=1) for s in subsets.values()]
    if images:
        assert (torch.stack(each) == 4).any() and not (torch.stack(each) == 9).any()
    for labels in (torch.full((images,), 4), torch.arange(images)):
        rows = correct_by_k(x[:images], labels, weight, bias, subsets)
        assert torch.equal(rows, torch.stack(each) == labels)


@pytest.mark.parametrize("trained", ["values", "bias"])
def test_a_head_trains_whichever_parameter_is_thawed(trained):
    head, x = large_head(5)
    head.requires_grad_(False)
    getattr(head, trained).requires_grad_(True)
    head(x).sum().backward()
    assert getattr(head, trained).grad is not None


def test_a_sweep_goes_through_the_images_in_parts(monkeypatch):
    x, weight, bias = random_problem()
    labels = (x @ weight.T).argmax(dim=1)
    subsets = {k: [torch.arange(k)] * 4 for k in (1, 3, 6)}
    whole = correct_by_k(x, labels, weight, bias, subsets)
    monkeypatch.setattr("paperlib.heads.accuracy.LOGITS_AT_ONCE", 28)
    assert torch.equal(correct_by_k(x, labels, weight, bias, subsets), whole)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_gpu_head_gives_the_cpu_logits():
    head, x = large_head(30)
    with torch.no_grad():
        cpu = head(x)
        assert torch.allclose(head.cuda()(x.cuda()).cpu(), cpu, atol=1e-4)


def test_classes_without_images_keep_their_weights():
    """A refit that never sees a class must not drive its logit down."""
    x, weight, bias = random_problem()
    labels = torch.arange(300) % 3
    head = softmax_refit(weight, bias, SPREAD, x, labels)
    plain = DecomposedHead(weight, bias, SPREAD)
    assert torch.equal(head.weight[3], plain.weight[3])
    assert torch.allclose(head.bias[3], plain.bias[3], atol=1e-5)
    assert not torch.allclose(head.weight[:3], plain.weight[:3], atol=1e-2)


def test_an_unfinished_refit_says_so():
    x, weight, bias = random_problem()
    labels = torch.arange(300) % 4
    with pytest.warns(UserWarning, match="has not converged in 1 iterations"):
        softmax_refit(weight, bias, SPREAD, x, labels, max_iterations=1)
    with pytest.raises(ValueError, match="l2 must be a number that is not negative, got -1"):
        softmax_refit(weight, bias, SPREAD, x, labels, l2=-1)
