import fc from 'fast-check'
import { expect, test } from 'vitest'
import { createInflight } from '../../symbolicate/inflight.ts'

test('the position never passes an offset that is not finished, and reaches the end when all are', () => {
  const batches = fc.array(fc.array(fc.boolean(), { minLength: 1, maxLength: 8 }), { minLength: 1, maxLength: 8 })
  fc.assert(fc.property(batches, fc.infiniteStream(fc.nat()), (plan, picks) => {
    const inflight = createInflight()
    expect(inflight.position).toBeNull()
    const open = new Set<number>()
    let end = 0
    const check = () => expect(inflight.position).toBe(open.size === 0 ? end : Math.min(...open))
    for (const batch of plan) {
      const late = batch.flatMap((isLate, i) => (isLate ? [end + i] : []))
      end += batch.length
      inflight.read(end, late)
      for (const offset of late) open.add(offset)
      check()
      const victim = [...open][picks.next().value as number % Math.max(1, open.size)]
      if (victim !== undefined) {
        inflight.finish(victim)
        open.delete(victim)
        check()
      }
    }
    for (const offset of [...open]) {
      inflight.finish(offset)
      open.delete(offset)
      check()
    }
  }))
})
