"""The API, the UI and training have the same recipes."""

import re
from typing import get_args

from backend.schemas.trainings import Recipe
from scripts.local.config import REPOSITORY
from training.recipe import RECIPES


def test_the_api_and_the_ui_offer_exactly_the_recipes_of_training() -> None:
    form = (REPOSITORY / "ui/src/components/TrainForm.tsx").read_text()
    (choice,) = re.findall(r'<select name="recipe">(.*?)</select>', form, re.DOTALL)
    assert list(get_args(Recipe)) == re.findall(r'<option value="(\w+)"', choice) == list(RECIPES)
