"""The branch of the settings that says which language model is asked, and what it may cost."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr

from infra.core.section import Section


class ModelEndpoint(Section):
    """A model: where it is, how to log in there, and what it takes for a million tokens."""

    name: str | None = Field(None, description="as LangChain's init_chat_model takes it, e.g. openai:gpt-5-mini")
    base_url: str | None = Field(None, description="of a local or compatible server")
    api_key: SecretStr | None = Field(None, description="the provider's key")
    api_key_file: Path | None = Field(None, description="a file that holds the key")
    input_price: float = Field(0.0, ge=0, description="price of a million input tokens, in the currency of `money_per_hour`")
    output_price: float = Field(0.0, ge=0, description="price of a million output tokens")

    def cost(self, input_tokens: float, output_tokens: float) -> float:
        """What so many tokens cost, in the currency of the prices."""
        return (input_tokens * self.input_price + output_tokens * self.output_price) / 1_000_000


class ModelSettings(ModelEndpoint):
    """The language model that reviews findings, inside the bounds that rules set. Unset: findings stand as the rules wrote them."""

    fallback: ModelEndpoint | None = Field(None, description="another model (`name`, `base_url`, …), asked where the first one fails")
    timeout: float = Field(30.0, gt=0, description="seconds to wait for an answer")
    parallel: int = Field(4, ge=1, le=64, description="questions at once")
    answer_tokens: int = Field(4000, ge=100, description="most tokens of an answer")
    calls_per_minute: int = Field(120, ge=1, description="limit of the rate; further questions wait")
    calls_per_hour: int = Field(500, ge=0, description="budget of calls; beyond it findings stand as the rules wrote them")
    tokens_per_hour: int = Field(2_000_000, ge=0, description="budget of tokens, asked and answered")
    money_per_hour: float | None = Field(None, ge=0, description="budget in the currency of the prices; unset: money is no limit")
    followups_per_hour: int = Field(20, ge=0, description="looks that the model may ask for; further ones are dropped")

    @property
    def endpoints(self) -> tuple[ModelEndpoint, ...]:
        """The models in the order in which they are asked."""
        return (self, self.fallback) if self.fallback is not None and self.fallback.name else (self,)
