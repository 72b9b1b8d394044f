import { randomBytes } from 'node:crypto'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { freePorts, jarsOf, missing, scratch } from './java.ts'
import { startServer } from './server.ts'

/** A real S3 server (s3proxy over a folder) that checks secrets and signatures, with one empty bucket. */
export interface S3Server {
  endpoint: string
  region: string
  bucket: string
  credentials: { accessKeyId: string; secretAccessKey: string }
  /** The files that it serves as the bucket. */
  folder: string
  stop(): Promise<void>
}

export async function startS3(): Promise<S3Server> {
  const reason = missing('s3proxy')
  if (reason !== null) throw new Error(`the S3 tests need a server: ${reason}`)
  const directory = scratch('s3')
  const [port] = await freePorts(1)
  const endpoint = `http://127.0.0.1:${port}`
  const credentials = { accessKeyId: 'overrun-test', secretAccessKey: randomBytes(20).toString('hex') }
  const bucket = 'blobs'
  const folder = join(directory, 'data', bucket)
  mkdirSync(folder, { recursive: true })
  writeFileSync(join(directory, 's3proxy.conf'), Object.entries({
    's3proxy.endpoint': endpoint,
    's3proxy.authorization': 'aws-v2-or-v4',
    's3proxy.identity': credentials.accessKeyId,
    's3proxy.credential': credentials.secretAccessKey,
    'jclouds.provider': 'filesystem-nio2',
    'jclouds.filesystem.basedir': join(directory, 'data'),
  }).map(([key, value]) => `${key}=${value}\n`).join(''))
  // Without a level logback takes DEBUG, which is a line for every read: ten times the work of an upload.
  writeFileSync(join(directory, 'logback.xml'), '<configuration><appender name="OUT" class="ch.qos.logback.core.ConsoleAppender"><encoder><pattern>%m%n</pattern></encoder></appender><root level="INFO"><appender-ref ref="OUT"/></root></configuration>')
  const args = [`-Dlogback.configurationFile=${join(directory, 'logback.xml')}`, '-XX:TieredStopAtLevel=1', '-XX:+UseSerialGC', '-Xmx256m', '-cp', join(jarsOf('s3proxy'), '*'), 'org.gaul.s3proxy.Main']
  const server = await startServer('java', [...args, '--properties', join(directory, 's3proxy.conf')], /Started .*ServerConnector/)
  return {
    endpoint, region: 'us-east-1', bucket, credentials, folder,
    async stop() {
      await server.kill()
      rmSync(directory, { recursive: true, force: true })
    },
  }
}
