import { setTimeout as delay } from 'node:timers/promises'
import { expect, test } from 'vitest'
import type { LogBatch } from '../../infra/log/log.ts'
import { createConvoy } from '../../symbolicate/convoy.ts'

const batchOf = (partition: number, entries = 1): LogBatch =>
  ({ topic: 't', partition, entries: Array.from({ length: entries }, (_, offset) => ({ offset, key: '', value: new Uint8Array(0), headers: {}, appendedAt: 0 })), stale: () => false })

/** A handler that ends when it is told to, and what it was given. */
function slowHandler() {
  const seen: number[][] = []
  const gates: PromiseWithResolvers<void>[] = []
  const handle = (batches: readonly LogBatch[]) => {
    seen.push(batches.map(({ partition }) => partition))
    gates.push(Promise.withResolvers())
    return gates.at(-1)!.promise
  }
  return { seen, gates, handle }
}

test('batches that come together are handled together, and what comes meanwhile leaves with the next', async () => {
  const { seen, gates, handle } = slowHandler()
  const convoy = createConvoy(handle, { maxEntries: 100, isStopping: () => false })
  const first = [convoy(batchOf(0)), convoy(batchOf(1))]
  await expect.poll(() => seen).toEqual([[0, 1]])
  const next = [convoy(batchOf(2)), convoy(batchOf(3)), convoy(batchOf(4))]
  await delay(30)
  expect(seen).toEqual([[0, 1]])
  gates[0]!.resolve()
  await Promise.all(first)
  await expect.poll(() => seen).toEqual([[0, 1], [2, 3, 4]])
  gates[1]!.resolve()
  await Promise.all(next)
})

test('when much is waiting a second convoy leaves at once, and no third', async () => {
  const { seen, gates, handle } = slowHandler()
  const convoy = createConvoy(handle, { maxEntries: 100, isStopping: () => false })
  const first = convoy(batchOf(0))
  await expect.poll(() => seen).toEqual([[0]])
  const second = [convoy(batchOf(1, 20)), convoy(batchOf(2, 20))]
  await expect.poll(() => seen).toEqual([[0], [1, 2]])
  const third = convoy(batchOf(3, 50))
  await delay(30)
  expect(seen.length).toBe(2)
  gates[0]!.resolve()
  await first
  await expect.poll(() => seen).toEqual([[0], [1, 2], [3]])
  for (const gate of gates) gate.resolve()
  await Promise.all([...second, third])
})

test('a convoy has no more entries than it may, and a batch with more goes alone', async () => {
  const seen: number[][] = []
  const convoy = createConvoy(async (batches) => void seen.push(batches.map(({ partition }) => partition)), { maxEntries: 10, isStopping: () => false })
  await Promise.all([batchOf(0, 5), batchOf(1, 5), batchOf(2, 1), batchOf(3, 11), batchOf(4, 1)].map(convoy))
  expect(seen).toEqual([[0, 1], [2], [3], [4]])
})

test('what is wrong with one partition holds up no other', async () => {
  const seen: number[][] = []
  const convoy = createConvoy(async (batches) => {
    seen.push(batches.map(({ partition }) => partition))
    if (batches.some(({ partition }) => partition === 1)) throw new Error('partition 1 is broken')
  }, { maxEntries: 100, isStopping: () => false })
  const ends = await Promise.allSettled([0, 1, 2].map((partition) => convoy(batchOf(partition))))
  expect(ends.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled'])
  expect(seen).toEqual([[0, 1, 2], [0], [1], [2]])
})

test('when the worker stops, the convoy under way ends and those that wait are given back', async () => {
  const { seen, gates, handle } = slowHandler()
  let stopping = false
  const convoy = createConvoy(handle, { maxEntries: 100, isStopping: () => stopping })
  const first = convoy(batchOf(0))
  await expect.poll(() => seen).toEqual([[0]])
  const second = expect(convoy(batchOf(1))).rejects.toMatchObject({ code: 'stopped' })
  stopping = true
  gates[0]!.resolve()
  await first
  await second
  expect(seen).toEqual([[0]])
})
