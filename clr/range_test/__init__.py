"""The LR range test on anyone's model, and the bounds read off its curves. (Paper, section 3.3.)"""

from clr.range_test.bounds import Bounds, suggest_bounds
from clr.range_test.run import RangeTest, lr_range_test

__all__ = ["Bounds", "RangeTest", "lr_range_test", "suggest_bounds"]
