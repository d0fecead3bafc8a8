{{- define "web.container" -}}
name: app
image: {{ .Values.badImage | default (printf "%s:%s" .Values.image.repository (toString .Values.image.tag)) }}
{{- if .Values.badImage }}
imagePullPolicy: Never
{{- end }}
env:
  - { name: REVISION, value: {{ .Values.revision | quote }} }
  - { name: DOMAIN, value: web.{{ .Release.Namespace }}.svc.cluster.local }
ports:
  - { name: http, containerPort: 8000 }
{{- with .Values.probe }}
readinessProbe:
  {{- toYaml . | nindent 2 }}
{{- end }}
volumeMounts:
  - { name: data, mountPath: /data }
  - { name: tmp, mountPath: /tmp }
{{- end }}

{{- define "web.pod" -}}
terminationGracePeriodSeconds: 3
automountServiceAccountToken: false
volumes:
  - { name: tmp, emptyDir: {} }
  {{- if not .Values.claim }}
  - { name: data, emptyDir: {} }
  {{- end }}
containers:
  - {{- mergeOverwrite (fromYaml (include "web.container" .)) .Values.container | toYaml | nindent 4 }}
{{- end }}

{{- define "web.labels" -}}
app: web
part: set
{{- end }}

{{- define "web.set" -}}
serviceName: web
selector:
  matchLabels:
    {{- include "web.labels" . | nindent 4 }}
    {{- if .Values.versionInSelector }}
    helm.sh/chart: {{ .Values.version }}
    {{- end }}
template:
  metadata:
    labels:
      {{- include "web.labels" . | nindent 6 }}
      app.kubernetes.io/instance: {{ .Release.Name }}
      {{- with .Values.version }}
      helm.sh/chart: {{ . }}
      {{- end }}
  spec:
    {{- mergeOverwrite (fromYaml (include "web.pod" .)) .Values.pod | toYaml | nindent 4 }}
{{- if .Values.claim }}
volumeClaimTemplates:
  - metadata: { name: data }
    spec:
      accessModes: [ReadWriteOnce]
      {{- with .Values.storageClass }}
      storageClassName: {{ . }}
      {{- end }}
      resources: { requests: { storage: {{ .Values.claim }} } }
{{- end }}
{{- end }}

{{- define "web.service" -}}
clusterIP: None
{{- if not (hasKey .Values.service "selector") }}
selector:
  {{- include "web.labels" . | nindent 2 }}
{{- end }}
ports:
  - { name: http, port: 8000 }
{{- end }}
