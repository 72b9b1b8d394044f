import { expect, test } from 'vitest'
import { nextAlert, type Alert } from '../../../dashboard/detect/alerts.ts'
import { someFinding } from '../../fleet/finding.ts'

const HOUR = 3_600_000
const DAY = 24 * HOUR
const NOW = Date.UTC(2026, 10, 20, 12)

test('a finding that only lingers opens nothing', () => {
  expect(nextAlert(undefined, someFinding({ opens: false }), NOW)).toBeUndefined()
})

test('the same finding opens one alert with the same id for everybody, and says so once', () => {
  const alert = nextAlert(undefined, someFinding(), NOW)!
  expect(alert).toMatchObject({ version: 1, state: 'open', evidence: { tell: { version: 1, what: 'opened' } } })
  expect(alert.id).toMatch(/^[0-9a-f]{16}$/)
  expect(nextAlert(undefined, someFinding({ devices: 9 }), NOW + 5000)!.id).toBe(alert.id)
  expect(nextAlert(undefined, someFinding({ bucket: 'other' }), NOW)!.id).not.toBe(alert.id)
  expect(nextAlert(alert, someFinding(), NOW + 10_000)).toBeUndefined()
})

test('more devices make a new version of the same alert, and fewer do not', () => {
  const alert = nextAlert(undefined, someFinding({ devices: 5 }), NOW)!
  const more = nextAlert(alert, someFinding({ devices: 6 }), NOW + HOUR)!
  expect(more).toMatchObject({ id: alert.id, version: 2, devices: 6, openedAt: NOW, updatedAt: NOW + HOUR, evidence: { tell: { version: 1 } } })
  expect(nextAlert(more, someFinding({ devices: 2 }), NOW + 2 * HOUR)).toBeUndefined()
  expect(nextAlert(more, someFinding({ devices: 8 }), NOW + 2 * HOUR)!.evidence.tell).toEqual({ version: 3, what: 'worse' })
})

test('severity goes up and never down, and the stratum stays with it', () => {
  const alert = nextAlert(undefined, someFinding({ severity: 'low', stratum: 'release' }), NOW)!
  const high = nextAlert(alert, someFinding({ severity: 'high', stratum: 'E3-net' }), NOW + HOUR)!
  expect(high).toMatchObject({ severity: 'high', stratum: 'E3-net', evidence: { queue: 'security', tell: { version: 2, what: 'worse' } } })
  expect(nextAlert(high, someFinding({ severity: 'low', stratum: 'release', devices: 50 }), NOW + 2 * HOUR)).toMatchObject({ severity: 'high', stratum: 'E3-net', evidence: { queue: 'security' } })
})

test('an alert is resolved after 24 h of calm, and a lingering statistic starts the 24 h again', () => {
  const alert = nextAlert(undefined, someFinding(), NOW)!
  expect(nextAlert(alert, someFinding({ opens: false }), NOW + HOUR)).toBeUndefined()
  const calm = nextAlert(alert, undefined, NOW + 2 * HOUR)!
  expect(calm).toMatchObject({ state: 'open', version: 2, evidence: { calm_since: new Date(NOW + 2 * HOUR).toISOString(), tell: { version: 1 } } })
  expect(nextAlert(calm, undefined, NOW + 25 * HOUR)).toBeUndefined()
  const lingering = nextAlert(calm, someFinding({ opens: false }), NOW + 25 * HOUR)!
  expect(lingering.evidence.calm_since).toBeNull()
  const calmAgain = nextAlert(lingering, undefined, NOW + 26 * HOUR)!
  expect(nextAlert(calmAgain, undefined, NOW + 49 * HOUR)).toBeUndefined()
  expect(nextAlert(calmAgain, undefined, NOW + 50 * HOUR)).toMatchObject({ state: 'resolved', evidence: { tell: { what: 'resolved' } } })
})

test('a resolved alert opens again within seven days and is another one later', () => {
  const resolved: Alert = { ...nextAlert(undefined, someFinding(), NOW)!, state: 'resolved', version: 4 }
  expect(nextAlert(resolved, undefined, NOW + DAY)).toBeUndefined()
  expect(nextAlert(resolved, someFinding(), NOW + 6 * DAY)).toMatchObject({ id: resolved.id, version: 5, state: 'open', evidence: { tell: { what: 'reopened' } } })
  const later = nextAlert(resolved, someFinding(), NOW + 8 * DAY)!
  expect(later.version).toBe(1)
  expect(later.id).not.toBe(resolved.id)
})
