"""A shop in Django that prepares its orders in a worker.

In this folder, with the URL of a server in REDIS_URL:

    python manage.py migrate --run-syncdb
    python manage.py rsmq_ensure
    python manage.py rsmq_worker shop.handlers.prepare --queue django-orders --codec aiorsmq.JSON
    python manage.py runserver

The last may as well be `uvicorn shop.asgi:application` or `gunicorn shop.wsgi`.
Then `curl -d text=hello localhost:8000/orders`.
"""
