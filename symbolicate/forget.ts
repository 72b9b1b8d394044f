import { setTimeout as delay } from 'node:timers/promises'
import type { Blobs } from '../infra/blobs/blobs.ts'
import type { ClickHouse } from '../infra/clickhouse/client.ts'
import { BrokenWorld } from '../infra/service/errors.ts'
import { deviceObjects, forgetCrashes, forgetRows, pendingDeletions, type DeviceObject, type OfDevice } from './queries/device-rows.ts'

/**
 * Takes away what is kept of one device, in steps that may be cut anywhere and begun again:
 *
 *   objects  Its ranges inside packs are filled with zeros, of the same length, so that every other row finds its bytes where
 *            it did; dumps that are objects of their own are removed.
 *   rows     Its rows in every table that names it, those found by its crashes' ids, and its dead letters; alerts about
 *            several devices keep without its name.
 *   crashes  Its rows in `crashes` go last, because they say where all the others are.
 *
 * What stays: lines of the audit log, which prove each other; the log's own entries until their retention; and numbers of
 * places in the log, without a name, which say that those crashes no longer count.
 */
export interface ForgetStep {
  /** Give it back for the next step; null when nothing is left. */
  next: string | null
  /** Packs in which ranges were filled with zeros, and how many bytes those had. */
  packs: number
  bytes: number
  /** Objects that were removed. */
  dumps: number
  /** Rows, by table, whose deletion began in this step. */
  rows: Record<string, number>
}

/** Behind all keys of objects. */
const ROWS = '~rows'
const CRASHES = '~crashes'
const OBJECTS_A_STEP = 64
const STEP_MS = 20_000
const POLL_MS = 50

const NOTHING: Omit<ForgetStep, 'next'> = { packs: 0, bytes: 0, dumps: 0, rows: {} }

export async function forgetStep(of: OfDevice, after: string, { clickhouse, blobs, onRows }: {
  clickhouse: ClickHouse
  blobs: Blobs
  /** Told before the rows go, with how many there are: whoever keeps the books writes them now. */
  onRows: (rows: Record<string, number>) => Promise<void>
}): Promise<ForgetStep> {
  switch (after) {
    case ROWS:
      if (!await settled(clickhouse)) return { ...NOTHING, next: ROWS }
      await forgetCrashes(clickhouse, of)
      return { ...NOTHING, next: CRASHES }
    case CRASHES:
      return { ...NOTHING, next: await settled(clickhouse) ? null : CRASHES }
  }
  const step = { ...NOTHING }
  const objects = await deviceObjects(clickhouse, of, after, OBJECTS_A_STEP)
  const end = performance.now() + STEP_MS
  for (const object of objects) {
    if (performance.now() > end) return { ...step, next: after }
    const zeroed = await forgetObject(blobs, object)
    if (zeroed === 'removed') step.dumps++
    else if (zeroed > 0) {
      step.packs++
      step.bytes += zeroed
    }
    after = object.key
  }
  if (objects.length === OBJECTS_A_STEP) return { ...step, next: after }
  const rows = await forgetRows(clickhouse, of)
  await onRows(rows)
  return { ...step, rows, next: ROWS }
}

async function forgetObject(blobs: Blobs, { key, ranges }: DeviceObject): Promise<number | 'removed'> {
  if (key.startsWith('dumps/')) {
    await blobs.delete(key)
    return 'removed'
  }
  const bytes = await blobs.get(key)
  if (bytes === null) return 0
  let changed = 0
  for (const { offset, length } of ranges) {
    const range = bytes.subarray(offset, offset + length)
    if (range.every((byte) => byte === 0)) continue
    range.fill(0)
    changed += range.length
  }
  if (changed > 0) await blobs.put(key, bytes, { contentType: 'application/octet-stream' })
  return changed
}

/** Waits for a while until no deletion is under way; false when one still is. */
async function settled(clickhouse: ClickHouse): Promise<boolean> {
  for (const end = performance.now() + STEP_MS; performance.now() < end; await delay(POLL_MS)) {
    const { pending, failure } = await pendingDeletions(clickhouse)
    if (pending === 0) return true
    if (failure !== '') throw new BrokenWorld('deletion-failed', `ClickHouse can't delete rows: ${failure}`, { retryable: true })
  }
  return false
}
