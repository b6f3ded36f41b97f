// BullMQ, which keeps state, attempts and events of each job besides; completed jobs are removed.
const { Queue, Worker } = require("bullmq");
const { task, body, share, pace, stamp, isToFill, countdown, measure } = require("./shared");

const connection = { host: "127.0.0.1", port: task.port };
const defaultJobOptions = { removeOnComplete: true };
const queues = {};
const queue = (name) => (queues[name] ??= new Queue(name, { connection, defaultJobOptions }));
const send = (name, text = body) => queue(name).add("job", text);

const consume = async (name, jobs) => {
  const { handle, deleted, finished } = countdown(jobs);
  const options = { connection, concurrency: task.callers };
  const worker = new Worker(name, async (job) => handle(job.data), options);
  worker.on("completed", deleted);
  const said = await finished;
  if (name !== "benchmark") await worker.close();
  return said;
};

const WORK = {
  produce: (name, jobs) => share(jobs, () => send(name)),
  pace: (name, jobs) => pace(jobs, (text) => send(name, text)),
  drain: consume,
  await: consume,
  jobs: consume,
};

measure(
  async (name, jobs) => {
    await queue(name).waitUntilReady();
    const length = isToFill(name) ? jobs : 0;
    const all = Array.from({ length }, () => ({ name: "job", data: stamp() }));
    if (all.length) await queue(name).addBulk(all);
  },
  (name, jobs) => WORK[task.what](name, jobs),
  async (name) =>
    queue(name).getJobCountByTypes("waiting", "active", "delayed", "completed", "failed"),
);
