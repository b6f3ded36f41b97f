// Node's rsmq.
const RSMQ = require("rsmq");
const { task, body, share, pace, stamp, isToFill, countdown, measure } = require("./shared");

const rsmq = new RSMQ({ host: "127.0.0.1", port: task.port, realtime: true });

const send = (qname, message = body) => rsmq.sendMessageAsync({ qname, message });

const remove = async (qname, id) => {
  if ((await rsmq.deleteMessageAsync({ qname, id })) !== 1) throw new Error("a message is missing");
};

const receive = async (qname) => {
  const { id } = await rsmq.receiveMessageAsync({ qname });
  if (!id) throw new Error("a message is missing");
  await remove(qname, id);
};

// Consumers receive until there is nothing, then each announcement wakes one of them.
const consume = async (qname, messages) => {
  const { handle, deleted, finished } = countdown(messages);
  const waiting = [];
  let announced = 0;
  const subscriber = rsmq.redis.duplicate();
  subscriber.on("message", () => {
    announced++;
    waiting.shift()?.();
  });
  await new Promise((resolve) => subscriber.subscribe(`rsmq:rt:${qname}`, resolve));
  const consumer = async () => {
    for (;;) {
      const before = announced;
      const { id, message } = await rsmq.receiveMessageAsync({ qname });
      if (id) {
        handle(message);
        await remove(qname, id);
        deleted();
      } else if (announced === before) {
        await new Promise((resolve) => waiting.push(resolve));
      }
    }
  };
  for (let i = 0; i < task.callers; i++) consumer();
  return finished;
};

const WORK = {
  send: (qname, messages) => share(messages, () => send(qname)),
  produce: (qname, messages) => share(messages, () => send(qname)),
  pace: (qname, messages) => pace(messages, (text) => send(qname, text)),
  receive: (qname, messages) => share(messages, () => receive(qname)),
  drain: consume,
  await: consume,
};

measure(
  async (qname, messages) => {
    await rsmq.createQueueAsync({ qname, vt: 3600 }).catch((error) => {
      if (error.name !== "queueExists") throw error;
    });
    if (isToFill(qname)) {
      await Promise.all(Array.from({ length: messages }, () => send(qname, stamp())));
    }
  },
  (qname, messages) => WORK[task.what](qname, messages),
  async (qname) => (await rsmq.getQueueAttributesAsync({ qname })).msgs,
);
