import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { crashId, unsignedCrashId } from '../../ingest/crash-id.ts'

type Vectors = { signed: (Parameters<typeof crashId>[0] & { id: string })[]; unsigned: (Parameters<typeof unsignedCrashId>[0] & { id: string })[] }
const vectors = JSON.parse(readFileSync(new URL('../device/vectors/crash-ids.json', import.meta.url), 'utf8')) as Vectors

test.each(vectors.signed)('the id of boot $bootcount, report $seq of $fleet is $id', ({ id, ...crash }) => {
  expect(crashId(crash)).toBe(id)
})

test.each(vectors.unsigned)('the id of an unsigned report from $source is $id', ({ id, ...crash }) => {
  expect(unsignedCrashId(crash).id).toBe(id)
})

test('each part of a crash makes another id', () => {
  const { id, ...crash } = vectors.signed[0]!
  const others = [{ fleet: 'other' }, { deviceKeyId: '00'.repeat(32) }, { bootcount: 1 }, { seq: 9 }, { digest: '11'.repeat(32) }].map((part) => crashId({ ...crash, ...part }))
  expect(new Set([id, ...others]).size).toBe(6)
})

test('unsigned reports of one network are one device, whatever they carry', () => {
  const crash = vectors.unsigned[0]!
  const { deviceId } = unsignedCrashId(crash)
  expect(deviceId).toMatch(/^source:[0-9a-f]{32}$/)
  expect(unsignedCrashId({ ...crash, digest: '22'.repeat(32) }).deviceId).toBe(deviceId)
  expect(unsignedCrashId({ ...crash, source: '198.51.100.0/24' }).deviceId).not.toBe(deviceId)
})
