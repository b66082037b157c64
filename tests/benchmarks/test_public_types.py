"""The floor under the share of public names that say their type; `make types-public` measures it."""

from benchmarks.public_types import FLOOR, judged


def _found(lacking: int, of: int = 7000) -> dict:
    symbols = [
        {
            "name": f"innerloop.name{i}",
            "isExported": True,
            "isTypeKnown": i >= lacking,
            "isTypeAmbiguous": False,
            "diagnostics": [{"message": "Type is missing type annotation\nand more"}] if i < lacking else [],
        }
        for i in range(of)
    ]
    return {"completenessScore": 1 - lacking / of, "symbols": symbols}


def test_the_reached_share_is_enough():
    good, says = judged(_found(4))
    assert good and says == [f"99.943% of 7000 public names say their type in full; at least {FLOOR:.2%} have to"]


def test_one_more_name_without_a_type_falls_below_and_is_named():
    good, says = judged(_found(5))
    assert not good and len(says) == 6
    assert says[1] == "  innerloop.name0: Type is missing type annotation"


def test_a_package_that_is_not_found_is_no_pass():
    assert not judged({"completenessScore": 1.0, "symbols": []})[0]
