/**
 * Hostile input, parser by parser: some hundred changed files each here, 100,000 each with OVERRUN_LONG=1 (long.ts: every
 * parser in a child process, with a wall limit that its parent enforces). What a target must keep stands in targets.ts.
 */
import { describe, expect, test } from 'vitest'
import { describeRow, fuzz, isGood } from './long.ts'
import { createInputs, runInput } from './round.ts'
import { TARGETS } from './targets.ts'

const LONG = process.env.OVERRUN_LONG === '1'
const INPUTS = 300

describe.each(TARGETS)('$name', (target) => {
  test.skipIf(LONG)(`${INPUTS} changed inputs end as we say`, async () => {
    const input = createInputs(target)
    const failures: string[] = []
    for (let index = 0; index < INPUTS; index++) {
      const what = await runInput(target, input(index))
      if (what !== null) failures.push(`#${index}: ${what}`)
    }
    expect(failures).toEqual([])
  })

  test.runIf(LONG)('100,000 changed inputs end as we say, each within 2 s, all within 512 MiB', async () => {
    const row = await fuzz(target.name, 100_000)
    console.log(describeRow(row))
    expect(isGood(row), describeRow(row)).toBe(true)
  }, 3_600_000)
})

test('the same number is the same input', () => {
  const [target] = TARGETS
  expect(createInputs(target!)(7)).toEqual(createInputs(target!)(7))
  expect(createInputs(target!)(7)).not.toEqual(createInputs(target!)(8))
})
