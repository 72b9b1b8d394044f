/**
 * Hostile input, parser by parser: some hundred changed files each here, 100,000 each with OVERRUN_LONG=1 (long.ts: every
 * parser in a child process, with a wall limit that its parent enforces). What a target must keep stands in targets.ts.
 */
import { describe, expect, test } from 'vitest'
import { describeRow, fuzz, isGood } from './long.ts'
import { createInputs, runInput } from './round.ts'
import { hasSharedCorpus } from './seeds.ts'
import { TARGETS } from './targets.ts'

const LONG = process.env.OVERRUN_LONG === '1'
const INPUTS = 300

test('the corpus is there wherever CI runs', () => expect(hasSharedCorpus || process.env.CI !== 'true', 'the shared corpus is missing: set OVERRUN_CORPUS').toBe(true))

/** Where the shared corpus is absent, parsers whose inputs all come from it have nothing to start from. */
const noSeeds = (target: (typeof TARGETS)[number]): boolean => !hasSharedCorpus && !['minidump', 'js-stack', 'source-map', 'breakpad-sym', 'prepared', 'demangle'].includes(target.name)

describe.each(TARGETS.map((target) => ({ name: `${target.name}${noSeeds(target) ? ' (corpus absent)' : ''}`, target })))('$name', ({ target }) => {
  test.skipIf(LONG || noSeeds(target))(`${INPUTS} changed inputs end as we say`, async () => {
    const input = createInputs(target)
    const failures: string[] = []
    for (let index = 0; index < INPUTS; index++) {
      const what = await runInput(target, input(index))
      if (what !== null) failures.push(`#${index}: ${what}`)
    }
    expect(failures).toEqual([])
  })

  test.runIf(LONG && !noSeeds(target))('100,000 changed inputs end as we say, each within 2 s, all within 512 MiB', async () => {
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
