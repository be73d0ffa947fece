"""What every part of a report is: frozen data that JSON holds to the last bit."""

from pydantic import BaseModel, ConfigDict


class Frozen(BaseModel):
    """Plain data. SQNR is infinite where nothing was lost; JSON has no infinity but as a string."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")
