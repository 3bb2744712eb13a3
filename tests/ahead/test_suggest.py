"""The order in which ways to place a step are tried."""

from genax.ahead.suggest import REMATS, meshes, plans


def everything(*args, answer, **kwargs):
    search, found = plans(*args, **kwargs), []
    plan = next(search)
    while True:
        found.append(plan)
        try:
            plan = search.send(answer(plan))
        except StopIteration:
            return found


def test_meshes_split_the_batch_evenly():
    assert meshes(16, 32) == [
        ("data=16,fsdp=1,tensor=1", 16),
        ("data=1,fsdp=16,tensor=1", 16),
        ("data=2,fsdp=8,tensor=1", 16),
        ("data=1,fsdp=8,tensor=2", 8),
        ("data=1,fsdp=4,tensor=4", 4),
        ("data=1,fsdp=2,tensor=8", 2),
    ]
    assert [mesh for mesh, _ in meshes(16, 4)] == [
        "data=1,fsdp=4,tensor=4",
        "data=1,fsdp=2,tensor=8",
    ]


def test_sequences_stay_split_as_stated():
    assert meshes(8, 4, stated="fsdp=2,sequence=4") == [
        ("data=2,fsdp=1,tensor=1,sequence=4", 2),
        ("data=1,fsdp=2,tensor=1,sequence=4", 2),
    ]
    assert meshes(2, 4, stated="sequence=4") == meshes(2, 4)


def test_what_fits_needs_no_less():
    found = everything(8, 64, remat=True, answer=lambda plan: True)
    assert {(plan.remat, plan.accumulate) for plan in found} == {("none", 1)}


def test_what_does_not_fit_is_computed_again_then_split():
    found = everything(1, 4, remat=True, answer=lambda plan: False)
    assert [(plan.remat, plan.accumulate) for plan in found] == [
        *((policy, 1) for policy in REMATS),
        ("full", 2),
        ("full", 4),
    ]
    found = everything(1, 4, remat=False, answer=lambda plan: plan.accumulate == 2)
    assert [(plan.remat, plan.accumulate) for plan in found] == [("none", 1), ("none", 2)]


def test_what_is_impossible_ends_a_mesh():
    found = everything(2, 4, remat=True, answer=lambda plan: None)
    assert len(found) == len(meshes(2, 4))
