import { openEmbeddedLog } from '../../infra/log/embedded.ts'
import { connectKafkaLog } from '../../infra/log/kafka.ts'
import type { Log } from '../../infra/log/log.ts'
import type { BrokenWorld } from '../../infra/service/errors.ts'

/** A process to be killed: appends without end and writes the id of each acknowledged entry, one a line, to its output. */
const [where = '', topic = '', prefix = ''] = process.argv.slice(2)
const target = JSON.parse(where) as { directory: string } | { brokers: string[] }
const retention = { bytes: 1e9, ageMs: 1e9 }
const log: Log = 'directory' in target
  ? await openEmbeddedLog({ directory: target.directory, retention })
  : await connectKafkaLog({ brokers: target.brokers, clientId: 'appender', topics: [topic], partitions: 3, allowSingleBroker: true, retention })

let next = 0
await Promise.all(Array.from({ length: 16 }, async () => {
  for (;;) {
    const id = `${prefix}${next++}`
    const kept = await log.append(topic, { key: `device-${next % 5}`, value: Buffer.from(id.padEnd(3_000, '.')), headers: { id } }).then(() => true, (error: BrokenWorld) => {
      // A topic that was made a moment ago may have no leader yet: the sender is told, and this one is not acknowledged.
      if (!error.retryable) throw error
      return false
    })
    if (kept) process.stdout.write(`${id}\n`)
  }
}))
