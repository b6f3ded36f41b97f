"""Settings. Those for aiorsmq are the first two."""

import os

INSTALLED_APPS = ["aiorsmq.integrations.django", "shop"]
RSMQ = {
    "url": os.environ["REDIS_URL"],  # for several clients and processes, so not embedded://
    "queues": {
        "django-orders": {"vt": 30, "max_receives": 5, "dead_letter_queue": "django-dead"},
        "django-news": {"vt": 10},
    },
}

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": os.environ.get("DATABASE", "shop.sqlite3"),
        "OPTIONS": {"timeout": 30, "transaction_mode": "IMMEDIATE"},
    }
}
DEBUG = bool(os.environ.get("DEBUG"))
ALLOWED_HOSTS = ["*"]
SECRET_KEY = "only for this example"  # noqa: S105
ROOT_URLCONF = "shop.views"
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
