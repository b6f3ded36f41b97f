"""What the shop keeps: a queue keeps no results."""

from django.db import models


class Order(models.Model):
    text = models.CharField(max_length=1000)
    state = models.CharField(max_length=10, default="queued")

    def __str__(self) -> str:
        return self.text
