"""The parts of `suggest_bounds`: whose interval begins at 0, and where -log(loss) is worth a look."""

import numpy as np
import pandas as pd
import pytest
from synthetic import LINEAR, broken

from clr.range_test.bounds import _bounds, _log_max_lr
from clr.range_test.curve import Curve, CurveKind, CurveShape
from clr.range_test.record import RangeTest

CURVE = Curve(LINEAR, broken(LINEAR), 0.0, False, False, False)


@pytest.mark.parametrize(("at_start", "low", "high"), [(2, None, None), (3, 0.0, None), (4, 0.0, 0.25)])
def test_base_lr_may_be_lower_where_more_than_half_of_the_curves_rise_at_once(at_start, low, high):
    places = (0.24, 0.26, 0.25, 0.25)
    shapes = [CurveShape(CurveKind.PLATEAU, x, 0.5, i < at_start) for i, x in enumerate(places)]
    (base_lr, base_ci), _ = _bounds([CURVE] * 4, shapes, CurveKind.PLATEAU)
    usual = _bounds([CURVE] * 4, [CurveShape(CurveKind.PLATEAU, x, 0.5) for x in places], CurveKind.PLATEAU)[0][1]
    assert base_lr == pytest.approx(0.25) and usual[0] > 0.2
    assert base_ci == pytest.approx((usual[0] if low is None else low, usual[1] if high is None else high))


@pytest.mark.parametrize(("times", "known"), [(1.0, True), (1.9, True), (2.1, False), (0.6, True), (0.4, False)])
def test_the_logarithm_of_a_loss_is_read_where_the_metric_is_about_the_training_loss(times, known):
    loss = 2.0 - 1.5 * broken(LINEAR)
    rows = pd.DataFrame({"lr": LINEAR, "metric": -times * loss, "train_loss": loss[0]})
    curve = Curve(LINEAR, -times * loss, -times * loss[0], False, False, False)
    assert np.isfinite(_log_max_lr([curve], [RangeTest(rows)])) == known
