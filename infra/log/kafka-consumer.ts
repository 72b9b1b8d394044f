import type { Admin, Consumer, EachBatchPayload, Kafka, KafkaMessage } from 'kafkajs'
import { messageOf } from '../service/errors.ts'
import type { Logger } from '../service/logger.ts'
import { backOff, deliver, pause } from './deliver.ts'
import { withDeadline, type KafkaClient } from './kafka-client.ts'
import type { ConsumeOptions, LogBatch, LogConsumer, LogEntry } from './log.ts'
import { logBroken } from './outcome.ts'

/**
 * A member of a Kafka consumer group that starts where its own store says, not where Kafka thinks it was.
 *
 * assigned   The group gave us partitions (GROUP_JOIN). For each, startAt is asked, the offset is checked against what the
 *            topic holds, and kafkajs is made to seek there. Batches fetched meanwhile wait for that, or are dropped.
 * owned      Batches are handed over while heartbeats go on. When a heartbeat has not succeeded for sessionTimeoutMs, or
 *            the group says that our generation is over, the assignment is lost and stale() says so: kafkajs has no hook
 *            for revoked partitions, and a process that was frozen finds out by the clock.
 * lost       Nothing more is handed over or committed; kafkajs joins again, which is a new assignment.
 * silent     Nothing was heard of the group for three times as long as a rebalance may take, though nothing has failed
 *            either: kafkajs may lose a request (kafka-client.ts), and then waits for ever. A new consumer takes its place.
 *
 * Kafka's committed offset moves after `handle` resolves; it serves lag and tools, never correctness.
 */
export interface KafkaConsumerDeps { kafka: Kafka; admin: KafkaClient<Admin>; sessionTimeoutMs: number; logger: Logger | undefined }

interface Assignment {
  lost: boolean
  heardAt: number
  partitions: Map<number, { ready: Promise<void>; position: number; gapFrom: number; sought: boolean }>
}

const CONCURRENT_PARTITIONS = 16
/** How long a rebalance may wait for a member, unless a session is longer. */
const REBALANCE_MS = 30_000

export async function startKafkaConsumer(
  { kafka, admin, sessionTimeoutMs, logger }: KafkaConsumerDeps,
  { topic, group, startAt, maxEntries, maxBytes, maxWaitMs }: ConsumeOptions,
  handle: (batch: LogBatch) => Promise<void>,
): Promise<LogConsumer> {
  const stopping = new AbortController()
  const heartbeatMs = Math.floor(sessionTimeoutMs / 6)
  const firstAssignment = Promise.withResolvers<void>()
  firstAssignment.promise.catch(() => undefined)
  let assignment: Assignment = { lost: true, heardAt: 0, partitions: new Map() }
  let consumer: Consumer
  let restarting: Promise<void> | undefined
  /** When the present consumer was started: until it is in the group it hears nothing of it. */
  let startedAt = performance.now()
  const rebalanceMs = Math.max(sessionTimeoutMs, REBALANCE_MS)
  const watch = setInterval(() => {
    const silentMs = performance.now() - Math.max(startedAt, assignment.heardAt)
    if (silentMs > 3 * rebalanceMs) giveUp(new Error(`nothing was heard of the group for ${Math.round(silentMs / 1000)} s`))
  }, sessionTimeoutMs)

  try {
    await start()
    await firstAssignment.promise
  } catch (error) {
    await stop()
    throw error
  }
  return { stop, assigned: () => (isLost(assignment) ? [] : [...assignment.partitions.keys()]) }

  async function start(): Promise<void> {
    startedAt = performance.now()
    const mine = consumer = kafka.consumer({
      groupId: group,
      sessionTimeout: sessionTimeoutMs,
      rebalanceTimeout: rebalanceMs,
      heartbeatInterval: heartbeatMs,
      maxBytesPerPartition: maxBytes,
      // The broker gathers a batch for us: it answers when there are enough bytes, or when the wait is over.
      minBytes: maxBytes,
      maxBytes: Math.max(maxBytes, 10 * 1024 * 1024),
      maxWaitTimeInMs: Math.max(20, maxWaitMs),
      allowAutoTopicCreation: false,
    })
    const { GROUP_JOIN, HEARTBEAT, REQUEST, CRASH } = mine.events
    const isCurrent = () => mine === consumer
    mine.on(GROUP_JOIN, ({ payload }) => { if (isCurrent()) assigned(payload.memberAssignment[topic] ?? []) })
    // The session is counted from when the heartbeat left, not from when a process that was frozen got to its answer.
    let leftAt = 0
    mine.on(REQUEST, ({ payload }) => {
      if (payload.apiName === 'Heartbeat') leftAt = performance.now() - (Date.now() - payload.sentAt)
    })
    mine.on(HEARTBEAT, () => { if (isCurrent()) assignment.heardAt = Math.max(assignment.heardAt, leftAt) })
    mine.on(CRASH, ({ payload }) => {
      if (!isCurrent()) return
      assignment.lost = true
      if (!payload.restart) giveUp(payload.error)
    })
    await withDeadline(3 * rebalanceMs, connect(mine, async (payload) => { if (isCurrent()) await eachBatch(payload) }))
  }

  async function connect(mine: Consumer, eachBatch: (payload: EachBatchPayload) => Promise<void>): Promise<void> {
    try {
      await mine.connect()
      await mine.subscribe({ topic, fromBeginning: true })
      await mine.run({ autoCommit: false, eachBatchAutoResolve: false, partitionsConsumedConcurrently: CONCURRENT_PARTITIONS, eachBatch })
    } catch (error) {
      throw logBroken('log-unreachable', `log: can't read ${topic} from Kafka: ${messageOf(error)}`, error)
    }
  }

  /** kafkajs restarts itself after what it calls retriable; after anything else it is over, and we start anew. */
  function giveUp(error: Error): void {
    if (stopping.signal.aborted || restarting !== undefined) return
    assignment.lost = true
    restarting = restart(consumer, error)
  }

  async function restart(old: Consumer, error: Error): Promise<void> {
    // A request that it has lost may keep it from ending; nobody waits for that.
    old.disconnect().catch(() => undefined)
    logger?.error({ topic, group, error: messageOf(error) }, 'kafka reader ended, starts again')
    for (let attempt = 0; !stopping.signal.aborted; attempt++) {
      await pause(backOff(attempt), stopping.signal)
      try {
        if (!stopping.signal.aborted) await start()
        restarting = undefined
        return
      } catch (failure) {
        consumer.disconnect().catch(() => undefined)
        logger?.error({ topic, group, attempt, error: messageOf(failure) }, 'kafka reader does not start')
      }
    }
  }

  function assigned(ids: readonly number[]): void {
    assignment.lost = true
    const mine: Assignment = { lost: false, heardAt: performance.now(), partitions: new Map() }
    assignment = mine
    const placed = ids.map((id) => {
      const state = { ready: Promise.resolve(), position: 0, gapFrom: 0, sought: false }
      const at = place(mine, id, state)
      state.ready = at.then((emptied) => (emptied ? tellGap(mine, id, state) : undefined))
      state.ready.catch(() => undefined)
      mine.partitions.set(id, state)
      return at
    })
    Promise.all(placed).then(() => firstAssignment.resolve(), firstAssignment.reject)
  }

  /** Finds where to start and seeks there; what retention has passed already becomes the first batch's gap. True when nothing else is left. */
  async function place(mine: Assignment, id: number, state: { position: number; gapFrom: number }): Promise<boolean> {
    for (let attempt = 0; !isLost(mine) && !stopping.signal.aborted; attempt++) {
      try {
        const asked = await startAt(id)
        const { low, high } = await watermarks(id)
        if (asked > high) {
          throw logBroken('log-position-past-end', `log: ${topic}/${id} ends at ${high} and the reader is at ${asked}: this is not the log that it read before. `
            + 'Put the old topic back, or start the reader\'s store anew')
        }
        state.gapFrom = asked
        state.position = Math.max(asked, low)
        if (!isLost(mine)) {
          consumer.resume([{ topic, partitions: [id] }])
          consumer.seek({ topic, partition: id, offset: String(state.position) })
        }
        return low > asked && low === high
      } catch (error) {
        logger?.error({ topic, partition: id, error: messageOf(error) }, 'partition not read: no place to start')
        if (error instanceof Error && 'code' in error && error.code === 'log-position-past-end') {
          consumer.pause([{ topic, partitions: [id] }])
          throw error
        }
        await pause(backOff(attempt), stopping.signal)
      }
    }
    return false
  }

  /** Nothing lies behind what retention removed, and the next entry may be long in coming: the gap is told alone. */
  async function tellGap(mine: Assignment, id: number, state: { position: number; gapFrom: number }): Promise<void> {
    const batch: LogBatch = { topic, partition: id, entries: [], gap: { from: state.gapFrom, to: state.position }, stale: () => isLost(mine) }
    if (!await deliver(batch, handle, { stopping: stopping.signal, logger }) || isLost(mine)) return
    state.gapFrom = state.position
    await withDeadline(sessionTimeoutMs, consumer.commitOffsets([{ topic, partition: id, offset: String(state.position) }]))
  }

  async function watermarks(id: number): Promise<{ low: number; high: number }> {
    const found = (await admin.call((client) => client.fetchTopicOffsets(topic))).find(({ partition }) => partition === id)
    if (!found) throw logBroken('log-read-failed', `log: Kafka knows no partition ${id} of ${topic}`)
    return { low: Number(found.low), high: Number(found.high) }
  }

  async function eachBatch({ batch, resolveOffset, heartbeat, commitOffsetsIfNecessary, isStale }: EachBatchPayload): Promise<void> {
    const mine = assignment
    const state = mine.partitions.get(batch.partition)
    if (!state) return
    await withHeartbeats(mine, heartbeat, async () => {
      await state.ready.catch(() => undefined)
      if (isLost(mine) || isStale()) return
      const messages = batch.messages.filter(({ offset }) => Number(offset) >= state.position)
      if (messages.length === 0 || await jumped(batch.partition, state, Number(messages[0]!.offset))) return

      for (const slice of slices(messages, maxEntries, maxBytes)) {
        const entries = slice.map(entryOf)
        const first = entries[0]!.offset
        const handled = await deliver({
          topic,
          partition: batch.partition,
          entries,
          ...(first > state.gapFrom ? { gap: { from: state.gapFrom, to: first } } : {}),
          stale: () => isLost(mine),
        }, handle, { stopping: stopping.signal, logger })
        if (!handled || isLost(mine)) return
        const last = entries.at(-1)!.offset
        state.position = last + 1
        state.gapFrom = state.position
        resolveOffset(String(last))
        await withDeadline(sessionTimeoutMs, commitOffsetsIfNecessary({ topics: [{ topic, partitions: [{ partition: batch.partition, offset: String(last + 1) }] }] }))
        if (stopping.signal.aborted) return
      }
    })
  }

  /** A fetch that begins past our position is retention's doing only if the topic begins there; else we seek back, once. */
  async function jumped(id: number, state: { position: number; sought: boolean }, first: number): Promise<boolean> {
    if (first === state.position || state.sought) return (state.sought = false)
    if ((await watermarks(id)).low > state.position) return false
    state.sought = true
    consumer.seek({ topic, partition: id, offset: String(state.position) })
    return true
  }

  /** kafkajs beats only between batches; a batch that takes longer than the session would lose its partition. */
  async function withHeartbeats(mine: Assignment, heartbeat: () => Promise<void>, work: () => Promise<void>): Promise<void> {
    let failure: unknown
    const timer = setInterval(() => {
      heartbeat().catch((error: unknown) => {
        failure = error
        if (isOver(error)) mine.lost = true
      })
    }, heartbeatMs / 2)
    try {
      await work()
    } catch (error) {
      if (isOver(error)) mine.lost = true
      throw error
    } finally {
      clearInterval(timer)
    }
    // Thrown on, so that kafkajs joins the group again.
    if (failure !== undefined) throw failure
  }

  function isLost(mine: Assignment): boolean {
    return mine.lost || performance.now() - mine.heardAt > sessionTimeoutMs
  }

  async function stop(): Promise<void> {
    stopping.abort()
    clearInterval(watch)
    await restarting
    await Promise.allSettled([...assignment.partitions.values()].map(({ ready }) => ready))
    await consumer.disconnect()
    assignment.lost = true
  }
}

/** Answers of the group after which another member may have our partitions. A rebalance under way is not one: it waits for us. */
const isOver = (error: unknown): boolean =>
  error instanceof Error && 'type' in error && ['UNKNOWN_MEMBER_ID', 'ILLEGAL_GENERATION', 'FENCED_INSTANCE_ID'].includes(String(error.type))

function* slices(messages: readonly KafkaMessage[], maxEntries: number, maxBytes: number): Generator<KafkaMessage[]> {
  let slice: KafkaMessage[] = []
  let bytes = 0
  for (const message of messages) {
    const size = (message.value?.byteLength ?? 0) + (message.key?.byteLength ?? 0)
    if (slice.length > 0 && (slice.length === maxEntries || bytes + size > maxBytes)) {
      yield slice
      slice = []
      bytes = 0
    }
    slice.push(message)
    bytes += size
  }
  if (slice.length > 0) yield slice
}

function entryOf({ offset, key, value, headers = {}, timestamp }: KafkaMessage): LogEntry {
  return {
    offset: Number(offset),
    key: key?.toString() ?? '',
    value: value ?? new Uint8Array(),
    headers: Object.fromEntries(Object.entries(headers).map(([name, content]) => [name, String(Array.isArray(content) ? content[0] : content)])),
    appendedAt: Number(timestamp),
  }
}
