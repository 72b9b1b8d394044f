import { constants } from 'node:crypto'
import { readFileSync } from 'node:fs'
import type { Server, TlsOptions } from 'node:tls'
import { messageOf } from '../infra/service/errors.ts'
import type { Logger } from '../infra/service/logger.ts'
import type { IngestSettings } from './config.ts'

/**
 * The listener's own TLS. Every client is asked for a certificate, and OpenSSL's opinion of it is not asked for: the
 * handshake proves that the client has the key, and transport.ts judges the path by the fleets' own rules. Sessions are
 * not resumed, since a resumed one no longer has the chain.
 */
export type Tls = NonNullable<IngestSettings['tls']>

const readPair = ({ certificate, key }: Tls): { cert: Buffer; key: Buffer } => ({ cert: readFileSync(certificate), key: readFileSync(key) })

export function tlsOptions(tls: Tls, handshakeMs: number): TlsOptions {
  return {
    ...readPair(tls), requestCert: true, rejectUnauthorized: false, minVersion: 'TLSv1.2', handshakeTimeout: handshakeMs,
    secureOptions: constants.SSL_OP_NO_TICKET | constants.SSL_OP_NO_RENEGOTIATION,
  }
}

const LOOK_MS = 60_000

/** A renewed certificate is in use within a minute, for new connections; one that can't be read leaves the old one. */
export function keepFresh(server: Server, tls: Tls, logger: Logger, lookMs = LOOK_MS): { stop(): void } {
  let inUse = readPair(tls)
  const timer = setInterval(() => {
    try {
      const now = readPair(tls)
      if (now.cert.equals(inUse.cert) && now.key.equals(inUse.key)) return
      server.setSecureContext(tlsOptions(tls, 0))
      inUse = now
      logger.info({ slug: 'tls-renewed' }, 'the certificate of the listener was renewed')
    } catch (error) {
      logger.warn({ slug: 'tls-unreadable', reason: messageOf(error) }, 'the certificate of the listener cannot be read; the one in use stays')
    }
  }, lookMs)
  timer.unref()
  return { stop: () => clearInterval(timer) }
}
