import { expect, test } from 'vitest'
import { OUTCOMES, problemOf, refuse, reveals, statusOf, type Slug } from '../../ingest/outcome.ts'

const slugs = Object.keys(OUTCOMES) as Slug[]

test('a 401 is the same body whatever failed', () => {
  const bodies = new Set(slugs.filter((slug) => statusOf(slug) === 401).map((slug) => JSON.stringify(problemOf(refuse(slug, `why ${slug}`)))))
  expect(bodies.size).toBe(1)
  expect([...bodies][0]).not.toContain('why')
})

test('every other refusal tells its slug, its status and what to do', () => {
  for (const slug of slugs.filter(reveals)) {
    expect(problemOf(refuse(slug, 'detail'))).toEqual({ type: `tag:overrun.example,2026:problem/${slug}`, title: OUTCOMES[slug].title, status: OUTCOMES[slug].status, detail: 'detail' })
  }
})

test('only the statuses of the wire format occur', () => {
  expect([...new Set(slugs.map(statusOf))].sort()).toEqual([400, 401, 403, 404, 408, 409, 411, 413, 415, 422, 429, 503])
})
