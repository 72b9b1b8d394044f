{{- define "overrun.name" -}}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{- end }}

{{- define "overrun.image" -}}
{{- if .Values.image.digest }}{{ .Values.image.repository }}@{{ .Values.image.digest }}{{ else }}{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}{{ end }}
{{- end }}

{{- define "overrun.labels" -}}
app.kubernetes.io/name: overrun
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- end }}

{{- define "overrun.allLabels" -}}
{{ include "overrun.labels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end }}

{{/* What every pod has: an ordinary user, no capability, a file system that it can't write to, no token of the cluster. */}}
{{- define "overrun.pod" -}}
serviceAccountName: {{ include "overrun.name" .root }}
automountServiceAccountToken: false
# Else every Service is in the environment as OVERRUN_..., which are no settings.
enableServiceLinks: false
terminationGracePeriodSeconds: 20
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: { type: RuntimeDefault }
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.tolerations }}
tolerations: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.affinity }}
affinity: {{ toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "overrun.container" -}}
image: {{ include "overrun.image" .root }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: { drop: [ALL] }
env:
  - { name: OVERRUN_CONFIG, value: /etc/overrun/overrun.yaml }
  - { name: OVERRUN_OPS_HOST, value: 0.0.0.0 }
  - { name: OVERRUN_OPS_PORT, value: "9464" }
{{- range concat .root.Values.secretKeys.all .keys }}
  - { name: {{ . }}_FILE, value: /run/secrets/overrun/{{ . }} }
{{- end }}
{{- with .root.Values.env }}
{{ toYaml . | indent 2 }}
{{- end }}
{{- end }}

{{- define "overrun.probes" -}}
startupProbe: { httpGet: { path: /livez, port: ops }, periodSeconds: 2, failureThreshold: 60 }
livenessProbe: { httpGet: { path: /livez, port: ops }, periodSeconds: 10, timeoutSeconds: 5, failureThreshold: 6 }
readinessProbe: { httpGet: { path: /readyz, port: ops }, periodSeconds: 5, timeoutSeconds: 6 }
{{- end }}

{{- define "overrun.mounts" -}}
- { name: config, mountPath: /etc/overrun, readOnly: true }
- { name: secrets, mountPath: /run/secrets/overrun, readOnly: true }
- { name: tmp, mountPath: /tmp }
{{- end }}

{{- define "overrun.volumes" -}}
- { name: config, configMap: { name: {{ include "overrun.name" .root }} } }
- name: secrets
  secret:
    secretName: {{ required "existingSecret: the Secret with the keys of secretKeys" .root.Values.existingSecret }}
    defaultMode: 0440
    items:
{{- range concat .root.Values.secretKeys.all .keys }}
      - { key: {{ . }}, path: {{ . }} }
{{- end }}
- { name: tmp, emptyDir: { sizeLimit: 1Gi } }
{{- end }}
