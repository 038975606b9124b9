# Eight characters talk in a game at 60 frames a second. Three scenes of the same length: without inference, with worker threads, and with inference
# inside of the frame, pumped within 2 ms. Environment: MODEL (a path), SCENE_SECONDS of each, STRICT=1 to fail on late frames.
extends Node

const Model = preload("res://model.gdns")
const Character = preload("res://character.gdns")
const NAMES = ["Mara", "Odo", "Ilse", "Bran", "Tove", "Kaspar", "Runa", "Emrik"]
const QUESTIONS = ["Hello!", "What do you sell?", "How is the town today?", "Where is the gate?"]
const SCENES = ["without inference", "worker threads", "pumped, 2 ms a frame"]
const PUMP_US = 2000
const GAME_US = 4000
# In milliseconds: what inference may add to the 99th percentile of the frame time in each scene, and what no frame may take.
const MOST_ADDED = [0.0, 1.0, 2.5]
const LATE = 33.0

var scene = -1
var model
var characters = []
var asked = 0
var said = 0
var frames = []
var last = 0
var ends = 0
var worst = []

func _ready():
	next_scene()

func next_scene():
	if scene >= 0:
		report()
	scene += 1
	characters = []
	model = null
	if scene == SCENES.size():
		get_tree().quit(verdict())
		return
	if scene > 0:
		model = Model.new()
		if not model.open(OS.get_environment("MODEL"), scene == 2):
			die(model.error())
	said = 0
	last = 0
	ends = 0
	frames = []

func ask(character, name):
	asked += 1
	var messages = [
		{"role": "system", "content": "You are %s, a character in a small town. You sell bread." % name},
		{"role": "user", "content": QUESTIONS[asked % QUESTIONS.size()]}]
	if not character.ask(to_json({"messages": messages, "max_tokens": 60})):
		die(character.error())

# True once the model is there: a game shows its loading screen until then.
func loaded():
	if scene == 0:
		return true
	if scene == 2:
		model.pump(PUMP_US)
	if model.progress() < 1.0:
		if model.error() != "":
			die(model.error())
		return false
	return true

func _process(_delta):
	if scene == SCENES.size():
		return
	if ends == 0:
		if not loaded():
			return
		for name in NAMES if scene > 0 else []:
			characters.append(Character.new())
			ask(characters.back(), name)
		ends = OS.get_ticks_usec() + int(OS.get_environment("SCENE_SECONDS")) * 1000000
		# The first frames also pay for starting.
		last = 0
	var now = OS.get_ticks_usec()
	if last > 0:
		frames.append((now - last) / 1000.0)
	last = now
	# The game's own frame.
	while OS.get_ticks_usec() < now + GAME_US:
		pass
	if scene == 2:
		model.pump(PUMP_US)
	for i in characters.size():
		said += characters[i].poll().length()
		if not characters[i].is_talking():
			if characters[i].error() != "":
				die(characters[i].error())
			ask(characters[i], NAMES[i])
	if now > ends:
		next_scene()

func at(sorted, share):
	return sorted[int(share * (sorted.size() - 1))]

func report():
	var sorted = frames.duplicate()
	sorted.sort()
	var late = 0
	for ms in frames:
		if ms > LATE:
			late += 1
	worst.append({"p99": at(sorted, 0.99), "late": late, "said": said})
	print("  %-22s %5d frames, median %6.2f ms, p99 %6.2f ms, longest %6.2f ms, %d over %d ms, %d letters said" % [
		SCENES[scene], sorted.size(), at(sorted, 0.5), at(sorted, 0.99), sorted.back(), late, LATE, said])

# The exit code: 0 if everybody talked and, where STRICT, no scene was slower than it may be.
func verdict():
	for i in SCENES.size():
		if i > 0 and worst[i].said < 100:
			print("  nobody talks in the scene: ", SCENES[i])
			return 1
		if OS.get_environment("STRICT") == "1" and (worst[i].late > 0 or worst[i].p99 > worst[0].p99 + MOST_ADDED[i]):
			print("  too slow: ", SCENES[i])
			return 1
	return 0

func die(message):
	print("  failed: ", message)
	OS.exit_code = 1
	scene = SCENES.size()
	get_tree().quit(1)
