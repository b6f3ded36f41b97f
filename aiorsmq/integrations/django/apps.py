"""The app that INSTALLED_APPS names."""

from __future__ import annotations

from django.apps import AppConfig
from django.core import checks

from .checks import check_setting


class RSMQConfig(AppConfig):
    name = "aiorsmq.integrations.django"
    label = "aiorsmq"

    def ready(self) -> None:
        checks.register(check_setting)
