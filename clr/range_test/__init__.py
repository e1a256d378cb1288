"""The LR range test on anyone's model, and the bounds read off its curves. (Paper, section 3.3.)"""

from clr.range_test.bounds import Bounds, suggest_bounds
from clr.range_test.find import find_bounds
from clr.range_test.record import RangeTest
from clr.range_test.run import lr_range_test

__all__ = ["Bounds", "RangeTest", "find_bounds", "lr_range_test", "suggest_bounds"]
