"""docs/DESIGN.md says where what lies."""

import pytest

pytest.register_assert_rewrite("tests.support")
