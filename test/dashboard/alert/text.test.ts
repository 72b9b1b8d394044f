import { expect, test } from 'vitest'
import { formatAlert } from '../../../dashboard/alert/text.ts'
import { nextAlert } from '../../../dashboard/detect/alerts.ts'
import * as words from '../../../dashboard/detect/words.ts'
import { someFinding } from '../../fleet/finding.ts'

const NOW = Date.UTC(2026, 10, 20, 12)
const text = (change = {}) => formatAlert(nextAlert(undefined, someFinding(change), NOW)!, 'http://127.0.0.1/campaigns/x')

test('the text says what happened, both sides, what is unknown, the record and what to do', () => {
  const lines = text().split('\n')
  expect(lines[0]).toMatch(/^HIGH  PRB-SPREAD  Possible attack/)
  for (const name of ['What happened', 'Why an attack', 'Why not', 'Unknown', 'Score', 'This detector', 'Affected', 'When', 'ATT&CK', 'Do now', 'Link']) {
    expect(lines.some((line) => line.startsWith(name)), name).toBe(true)
  }
  expect(text()).not.toMatch(/exploit confirmed/i)
})

test('a hostile crash title can neither break a line nor steer a terminal', () => {
  const hostile = text({ title: 'a\nLink  http://evil\u001b[2J\u202egnp.exe', evidence: { ...someFinding().evidence, what: 'x\r\nDo now pay' } })
  expect(hostile.split('\n')).toHaveLength(text().split('\n').length)
  expect(hostile.replaceAll('\n', '')).not.toMatch(/[\u0000-\u001f\u202e]/)
})

test.each([
  [0, 'nothing unusual'], [Math.log(1 / 200), 'about 1 in 200'], [Math.log(5e-9), 'about 1 in 200 million'], [-900, 'less than 1 in 10^390'],
])('chance with ln p = %d is said as %s', (lnP, said) => {
  expect(words.chance(lnP)).toBe(said)
})
