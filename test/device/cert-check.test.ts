import { execFileSync, spawnSync } from 'node:child_process'
import { X509Certificate, createPublicKey } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { createFleet } from '../../ingest/device/fleet.ts'
import { basicConstraints, der, extendedKeyUsage, issueCertificate, keyUsage, objectIdentifier, toPem } from '../../ingest/device/issue.ts'
import { crlPem, drawCrl, extensionOf, nameDer } from '../ingest/build-crl.ts'

const DAY = 24 * 3600 * 1000
const NOW = Date.now()
const fleet = createFleet({ devices: 1, now: NOW })
const stranger = createFleet({ devices: 1, name: 'stranger', now: NOW })
const device = fleet.devices[0]!

const dir = mkdtempSync(join(tmpdir(), 'overrun-cert-'))
afterAll(() => rmSync(dir, { recursive: true }))
const file = (name: string, text: string): string => {
  writeFileSync(join(dir, name), text)
  return join(dir, name)
}
const [anchor, chain] = [file('ca.pem', fleet.ca.pem), file('chain.pem', device.chainPem)]

const list = (authority = fleet.intermediate, more: Partial<Parameters<typeof drawCrl>[0]> = {}): string => crlPem(drawCrl({ issuer: nameDer(authority.name), key: authority.key, thisUpdate: NOW - DAY, ...more }))
const serial = Buffer.from(new X509Certificate(device.certificatePem).serialNumber, 'hex')
const lists = list() + list(fleet.ca)

const command = resolve(import.meta.dirname, 'device-cli.ts')
function check(...args: string[]): { code: number | null; out: string; err: string } {
  const { status, stdout, stderr } = spawnSync(process.execPath, [command, 'cert', 'check', ...args], { encoding: 'utf8' })
  return { code: status, out: stdout, err: stderr }
}

describe('overrun cert check', () => {
  test('accepts a good chain, names the device and says that its use is right', () => {
    expect(check('--anchor', anchor, chain)).toEqual({
      code: 0, err: '', out: 'accepted: device demo-0001, a P-256 key, issued by CN=demo device CA,O=demo\nuse: this leaf may sign crash reports\n',
    })
  })

  test('refuses with the slug and a sentence, and 21', () => {
    expect(check('--anchor', file('other.pem', stranger.ca.pem), chain)).toEqual({ code: 21, err: '', out: 'refused: anchor-unknown\nchain: no anchor is named CN=demo root CA,O=demo\n' })
    expect(check('--anchor', anchor, '--at', '2199-01-01T00:00:00Z', '--json', chain)).toMatchObject({ code: 21, out: expect.stringMatching(/^{"accepted":false,"slug":"certificate-expired","detail":"chain: the leaf was valid until /) as unknown })
  })

  test('says of an anchor that cannot be one why, and not that it is missing', () => {
    expect(check('--anchor', file('leaf.pem', device.certificatePem), chain)).toMatchObject({ code: 21, out: expect.stringContaining('refused: certificate-not-ca') as unknown })
  })

  test('judges the path, and says on a line of its own what the leaf may not be used for', () => {
    const server = issueCertificate({
      subject: [['2.5.4.3', 'server']], issuer: fleet.intermediate.name, publicKey: createPublicKey(device.key), signingKey: fleet.intermediate.key, notBefore: NOW - DAY, notAfter: NOW + DAY,
      extensions: [
        basicConstraints(false), keyUsage('digitalSignature'), extendedKeyUsage('1.3.6.1.5.5.7.3.1'),
        { oid: '2.23.133.5.4.1', critical: true, value: der(0x30, der(0x83, Buffer.of(9)), der(0xa6, der(0x30, objectIdentifier('2.16.840.1.101.3.4.2.1'), der(0x04, Buffer.alloc(32, 0xab))))) },
      ],
    })
    const { code, out } = check('--anchor', anchor, file('server.pem', toPem(server) + fleet.intermediate.pem))
    expect(code).toBe(0)
    expect(out).toContain('\nuse: by default this leaf signs no crash reports: chain: the leaf has none of the extended key usages')
    expect(out).toContain(`\nfirmware: security version 9, sha256 ${'ab'.repeat(32)}\n`)
  })

  test.each<[string, string, string | undefined]>([
    ['accepts with a current list of every issuer', lists, undefined],
    ['certificate-revoked', list(fleet.intermediate, { revoked: [{ serial }] }) + list(fleet.ca), 'certificate-revoked'],
    ['crl-missing when one issuer has none', list(), 'crl-missing'],
    ['crl-missing when a list is signed by somebody else', list(fleet.intermediate, { key: stranger.ca.key }) + list(fleet.ca), 'crl-missing'],
    ['crl-expired when a list has run out', list(fleet.intermediate, { nextUpdate: NOW - 2000 }) + list(fleet.ca), 'crl-expired'],
    ['crl-unsupported when a delta is among the lists', lists + list(fleet.intermediate, { extensions: [extensionOf('2.5.29.27', true, der(0x02, Buffer.of(1)))] }), 'crl-unsupported'],
  ])('with --crl: %s', (_, text, slug) => {
    const { code, out } = check('--anchor', anchor, '--crl', file('lists.pem', text), chain)
    expect(slug === undefined ? [code, out.slice(0, 9)] : [code, out.split('\n')[0]]).toEqual(slug === undefined ? [0, 'accepted:'] : [21, `refused: ${slug}`])
  })

  test('wants the chain in order, as the door does, unless --any-order', () => {
    const heap = file('heap.pem', device.certificatePem + stranger.intermediate.pem + fleet.intermediate.pem)
    expect(check('--anchor', anchor, heap)).toMatchObject({ code: 21, out: expect.stringContaining('refused: chain-order') as unknown })
    expect(check('--anchor', anchor, '--any-order', heap)).toMatchObject({ code: 0 })
  })

  test('takes RSA only with --allow-rsa', () => {
    const openssl = (...args: string[]): void => { execFileSync('openssl', args, { cwd: dir, stdio: 'pipe' }) }
    openssl('req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-keyout', 'rsa.key', '-out', 'rsa-ca.pem', '-subj', '/CN=rsa ca', '-days', '3', '-addext', 'keyUsage=critical,keyCertSign')
    openssl('req', '-newkey', 'rsa:2048', '-nodes', '-keyout', 'leaf.key', '-out', 'leaf.csr', '-subj', '/CN=rsa device')
    openssl('x509', '-req', '-in', 'leaf.csr', '-CA', 'rsa-ca.pem', '-CAkey', 'rsa.key', '-out', 'rsa-leaf.pem', '-days', '2', '-extfile', file('leaf.ext', 'keyUsage=digitalSignature\n'))
    const [rsaAnchor, rsaLeaf] = [join(dir, 'rsa-ca.pem'), join(dir, 'rsa-leaf.pem')]
    expect(check('--anchor', rsaAnchor, rsaLeaf)).toMatchObject({ code: 21, out: expect.stringContaining('certificate-algorithm') as unknown })
    expect(check('--anchor', rsaAnchor, '--allow-rsa', rsaLeaf)).toMatchObject({ code: 0 })
  })

  test.each<[string, number, string[]]>([
    ['a file that is not there', 23, ['--anchor', anchor, join(dir, 'nowhere.pem')]],
    ['a file without a certificate', 21, ['--anchor', anchor, file('empty.pem', 'nothing')]],
    ['no anchor', 2, [chain]],
    ['no chain', 2, ['--anchor', anchor]],
    ['a time that is none', 2, ['--at', 'soon', '--anchor', anchor, chain]],
  ])('ends at %s with %i', (_, code, args) => {
    expect(check(...args).code).toBe(code)
  })
})

describe('overrun cert check --batch', () => {
  test('answers each line, and does not end at one that cannot be read', () => {
    const at = new Date(NOW).toISOString()
    const lines = [
      { id: 'good', anchors: fleet.ca.pem, chain: device.chainPem, crls: '', at },
      { id: 'lists', anchors: [stranger.ca.pem, fleet.ca.pem], chain: [device.certificatePem, fleet.intermediate.pem], crls: [list(fleet.intermediate, { revoked: [{ serial }] }), list(fleet.ca)], at },
      { id: 3, anchors: stranger.ca.pem, chain: device.chainPem, crls: [] },
      { id: 'early', anchors: fleet.ca.pem, chain: device.chainPem, at: 0 },
      { id: 'nothing', anchors: '', chain: '' },
    ]
    const input = [...lines.map((line) => JSON.stringify(line)), 'no JSON', '', JSON.stringify({ id: 'last', anchors: fleet.ca.pem, chain: device.chainPem })].join('\n')
    const { status, stdout, stderr } = spawnSync(process.execPath, [command, 'cert', 'check', '--batch'], { encoding: 'utf8', input })
    expect(stdout.trim().split('\n').map((line) => JSON.parse(line) as unknown)).toEqual([
      { id: 'good', accepted: true, slug: 'accepted' }, { id: 'lists', accepted: false, slug: 'certificate-revoked' }, { id: 3, accepted: false, slug: 'anchor-unknown' },
      { id: 'early', accepted: false, slug: 'certificate-not-yet-valid' }, { id: 'nothing', accepted: false, slug: 'chain-malformed' }, { id: 'last', accepted: true, slug: 'accepted' },
    ])
    expect(stderr).toContain('a line is not {id, anchors, chain, crls, at}')
    expect(status).toBe(21)
  })
})
