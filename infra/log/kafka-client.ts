import { logBroken } from './outcome.ts'

/**
 * A client of kafkajs (admin, producer) of which every call ends.
 *
 * When a connection goes silent at the wrong moment kafkajs loses a call: no request of it is under way any more, its
 * promise never settles, and the calls after it wait behind it for ever (seen with a worker that came into its group while the
 * network swallowed what the broker said: it held its partitions for 17 minutes and read nothing). So each call has a
 * deadline, and a client that has missed one, or could not connect, is given up for a new one.
 */
export interface KafkaClient<Client> {
  /** Connects where needed. Rejects with `log-timeout` at the deadline; what `work` asked for may still happen. */
  call<T>(work: (client: Client) => Promise<T>): Promise<T>
  disconnect(): Promise<void>
}

export function renewedClient<Client extends { connect(): Promise<void>; disconnect(): Promise<void> }>(create: () => Client, deadlineMs: number): KafkaClient<Client> {
  let current: { client: Client; connecting: Promise<void>; connected: boolean } | null = null

  function open() {
    const client = create()
    const opened = { client, connecting: client.connect(), connected: false }
    opened.connecting.then(() => { opened.connected = true }, () => undefined)
    return opened
  }

  return {
    async call(work) {
      const mine = current ??= open()
      try {
        return await withDeadline(deadlineMs, mine.connecting.then(() => work(mine.client)))
      } catch (error) {
        if (!mine.connected || isLate(error)) {
          if (current === mine) current = null
          // What it still has under way may keep it from ending; nobody waits for that.
          mine.client.disconnect().catch(() => undefined)
        }
        throw error
      }
    },
    async disconnect() {
      const mine = current
      current = null
      if (mine !== null) await withDeadline(deadlineMs, mine.client.disconnect())
    },
  }
}

const isLate = (error: unknown): boolean => error instanceof Error && 'code' in error && error.code === 'log-timeout'

export async function withDeadline<T>(ms: number, work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(logBroken('log-timeout', `log: no answer from Kafka within ${ms} ms`)), ms)
  })
  try {
    return await Promise.race([work, late])
  } finally {
    clearTimeout(timer)
  }
}
