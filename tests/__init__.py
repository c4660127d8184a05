"""The test suite: its folders mirror the package."""

import pytest

pytest.register_assert_rewrite("tests.fixtures")  # helpers that assert explain themselves as tests do
