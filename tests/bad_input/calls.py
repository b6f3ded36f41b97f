"""RSMQ's methods, each with a queue's name."""

ANY_ID = "0" * 32


METHODS = {
    "queue": lambda rsmq, qname: rsmq.queue(qname),
    "create_queue": lambda rsmq, qname: rsmq.create_queue(qname=qname),
    "ensure_queue": lambda rsmq, qname: rsmq.ensure_queue(qname=qname),
    "delete_queue": lambda rsmq, qname: rsmq.delete_queue(qname=qname, missing_ok=True),
    "get_queue_attributes": lambda rsmq, qname: rsmq.get_queue_attributes(qname=qname),
    "set_queue_attributes": lambda rsmq, qname: rsmq.set_queue_attributes(qname=qname, vt=1),
    "send_message": lambda rsmq, qname: rsmq.send_message(qname=qname, message="x"),
    "receive_message": lambda rsmq, qname: rsmq.receive_message(qname=qname),
    "pop_message": lambda rsmq, qname: rsmq.pop_message(qname=qname),
    "change_message_visibility": lambda rsmq, qname: rsmq.change_message_visibility(
        qname=qname, id=ANY_ID, vt=1
    ),
    "delete_message": lambda rsmq, qname: rsmq.delete_message(qname=qname, id=ANY_ID),
    "messages": lambda rsmq, qname: rsmq.messages(qname),
}
