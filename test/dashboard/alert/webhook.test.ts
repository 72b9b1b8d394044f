import { randomBytes } from 'node:crypto'
import { Webhook as Verifier } from 'standardwebhooks'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { isPublicAddress } from '../../../dashboard/alert/address.ts'
import { faultOf, tryWebhook, type Webhook } from '../../../dashboard/alert/webhook.ts'
import { startReceiver, type Receiver } from './receiver.ts'

const secret = () => `whsec_${randomBytes(32).toString('base64')}`
const message = { id: 'alert_demo_0123456789abcdef_1', body: JSON.stringify({ type: 'alert.opened', data: { title: 'ü' } }) }

let receiver: Receiver
beforeEach(async () => { receiver = await startReceiver() })
afterEach(async () => { await receiver.stop() })
const hook = (change: Partial<Webhook> = {}): Webhook => ({ name: 'test', url: receiver.url, secrets: [secret()], allowPrivate: true, ...change })

test('a receiver with either of two secrets verifies the message, one with another secret refuses it', async () => {
  const secrets = [secret(), secret()]
  expect(await tryWebhook(hook({ secrets }), message)).toEqual({ outcome: 'delivered', detail: '204' })
  const [{ headers, body }] = receiver.received as [Receiver['received'][0]]
  const given = headers as Record<string, string>
  for (const each of secrets) expect(new Verifier(each).verify(body, given)).toEqual(JSON.parse(message.body))
  expect(headers['webhook-id']).toBe(message.id)
  expect(() => new Verifier(secret()).verify(body, given)).toThrow()
  expect(() => new Verifier(secrets[0]!).verify(body.replace('ü', 'u'), given)).toThrow()
})

test('an address inside is refused, as a number and behind a name, and nothing is sent', async () => {
  const port = new URL(receiver.url).port
  for (const host of ['127.0.0.1', 'localhost', '[::1]', '2130706433', '0x7f.1', '169.254.169.254', '[::ffff:127.0.0.1]', '[::ffff:7f00:1]']) {
    expect((await tryWebhook(hook({ url: `http://${host}:${port}/`, allowPrivate: false }), message)).outcome, host).toBe('address-refused')
  }
  expect(receiver.received).toEqual([])
})

test.each(['10.1.2.3', '172.31.0.1', '192.168.1.1', '100.64.0.1', '0.0.0.0', '224.0.0.1', '255.255.255.255', '::', '::1', 'fe80::1', 'fd00::1', 'ff02::1', '::ffff:10.0.0.1', '64:ff9b::a00:1', '2002:a00:1::', 'nonsense', ''])('%s is not public', (address) => {
  expect(isPublicAddress(address)).toBe(false)
})

test.each(['8.8.8.8', '203.0.113.7', '172.32.0.1', '2606:4700::1111', '::ffff:8.8.8.8'])('%s is public', (address) => {
  expect(isPublicAddress(address)).toBe(true)
})

test('a redirect is not followed', async () => {
  const target = await startReceiver()
  receiver.answer = (response) => response.writeHead(307, { location: target.url }).end()
  expect(await tryWebhook(hook(), message)).toMatchObject({ outcome: 'status', detail: expect.stringContaining('307') })
  expect(target.received).toEqual([])
  await target.stop()
})

test('a receiver that never answers, one that talks without end and one that is gone are only outcomes', async () => {
  receiver.answer = () => {}
  expect((await tryWebhook(hook(), message, { deadlineMs: 50 })).outcome).toBe('timeout')
  receiver.answer = (response) => {
    response.writeHead(200)
    const talk = () => { if (!response.destroyed) response.write('x'.repeat(65_536), talk) }
    talk()
  }
  expect((await tryWebhook(hook(), message)).outcome).toBe('delivered')
  receiver.answer = (response) => response.writeHead(410).end()
  expect((await tryWebhook(hook(), message)).outcome).toBe('gone')
  const { url } = receiver
  await receiver.stop()
  expect((await tryWebhook(hook({ url }), message)).outcome).toBe('network')
  receiver = await startReceiver()
})

test.each([
  ['ftp://example.com/', 'http or https'], ['file:///etc/passwd', 'http or https'], ['not a url', 'no URL'], ['https://user:pass@example.com/', 'password'],
])('%s is no webhook', async (url, why) => {
  expect(faultOf(hook({ url }))).toContain(why)
  expect((await tryWebhook(hook({ url }), message)).outcome).toBe('url-refused')
})

test('a secret that is too short or not whsec_ is no secret', () => {
  expect(faultOf(hook({ secrets: [] }))).toContain('no secret')
  for (const wrong of ['whsec_', `whsec_${Buffer.alloc(8).toString('base64')}`, secret().slice(6), 'whsec_***']) expect(faultOf(hook({ secrets: [wrong] }))).toContain('secret 1')
})
