import { describe, expect, test } from 'vitest'
import { LIST_NAMES, LISTS, parseList, readList } from '../../../symbolicate/signature/lists.ts'
import { normaliseName } from '../../../symbolicate/signature/normalise.ts'

describe.each(LIST_NAMES)('the list %s', (name) => {
  const entries = parseList(readList(name))

  test('has a head, and says why for each entry', () => {
    expect(readList(name).startsWith('## ')).toBe(true)
    expect(entries.length).toBeGreaterThan(5)
    for (const { pattern, why } of entries) expect(why, pattern).toMatch(/\w{2}/)
  })

  test('is sorted by code point, and no entry stands twice', () => {
    const patterns = entries.map(({ pattern }) => pattern)
    expect(patterns).toEqual([...patterns].sort((a, b) => (a < b ? -1 : a > b ? 1 : 0)))
    expect(new Set(patterns).size).toBe(patterns.length)
  })

  test('matches what each entry says, and has no entry that a shorter one swallows', () => {
    for (const { pattern } of entries) {
      const sample = pattern.endsWith('*') ? `${pattern.slice(0, -1)}something` : pattern
      expect(LISTS[name](sample)?.pattern, sample).toBe(pattern)
    }
  })

  test('has a star only at the end, and never matches everything', () => {
    for (const { pattern } of entries) {
      expect(pattern.slice(0, -1), pattern).not.toMatch(/\*(?!>)$/)
      expect(pattern.length, pattern).toBeGreaterThan(2)
    }
    for (const name_ of ['parse_header', 'handle_request', 'net::Server::accept', '']) expect(LISTS[name](name_)).toBeNull()
  })
})

test('frames are matched as they are after normalisation', () => {
  for (const name of ['sentinel', 'wrappers', 'irrelevant', 'prefix', 'entry'] as const) {
    for (const { pattern } of parseList(readList(name))) {
      if (!pattern.endsWith('*')) expect(normaliseName(pattern), `${name}: ${pattern}`).toBe(pattern)
    }
  }
})
