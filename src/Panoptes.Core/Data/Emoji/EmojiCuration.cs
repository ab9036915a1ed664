namespace Panoptes.Data.Emoji;

/// <summary>Names that no rule can match: what some packages call an emoji, found by looking at the drawings, and drawings that are broken or of another thing.</summary>
static class EmojiCuration
{
    static readonly Dictionary<string, string> Tables = new(StringComparer.Ordinal)
    {
        ["fxemoji"] = """
            2hearts 1F495 acorn 1F330 americasglobe 1F30E anguish 1F627 anticlockwiseupwardsanddownwardsarrows 1F504 aok 1F44C
            arrowrightwardsdownwards 2935 arrowrightwardsupwards 2934 asiaaustraliaglobe 1F30F backwithleftwardsarrow 1F519
            ballottboxwithballott 1F5F3 banknotedollar 1F4B5 banknoteeuro 1F4B6 banknotepound 1F4B7 banknoteyen 1F4B4 bellcancellation 1F515
            blackdownpointingdoublearrow 23EC blackleftpointingarrow 25C0 blackleftpointingdoublearrow 23EA blackquestionmark 2753
            blackrightpointingarrow 25B6 blackrightpointingdoublearrow 23E9 blackskullcrossbones 2620 blackuppointingdoublearrow 23EB
            blackwaving 1F3F4 blonde 1F471 bolt 26A1 bookmarktab 1F4D1 bow 1F380 bowing 1F647 bride 1F470 bunny 1F430 bunny-ears 1F46F
            bunnyside 1F407 cat 1F431 catside 1F408 cellphone 1F4F1 chartdownwardstrend 1F4C9 chartupwardstrend 1F4C8
            chartupwardstrendyen 1F4B9 chilipepper 1F336 chineseflag 1F1E8-1F1F3 cjkunifiedideograph-a 1F22F cjkunifiedideograph-b 1F23A
            cjkunifiedideograph-c 1F232 cjkunifiedideograph-d 1F233 cjkunifiedideograph-e 1F234 cjkunifiedideograph-f 1F235
            cjkunifiedideograph-g 1F236 cjkunifiedideograph-h 1F237 cjkunifiedideograph-i 1F21A cjkunifiedideograph-j 1F238
            cjkunifiedideograph-k 1F239 clock12oclock 1F55B clock12thirty 1F567 clock1oclock 1F550 clock1thirty 1F55C clock2oclock 1F551
            clock2thirty 1F55D clock3oclock 1F552 clock3thirty 1F55E clock4oclock 1F553 clock4thirty 1F55F clock5thirty 1F560
            clock6oclock 1F555 clock6thirty 1F561 clock7oclock 1F556 clockwiserightwardsleftwardscirclearrows 1F501
            clockwiserightwardsleftwardscirclearrowsone 1F502 closedmailboxlowered 1F4EA closedmailboxraised 1F4EB confetti 1F38A
            construct 1F477 construction 1F3D7 constructionsign 1F6A7 contact 1F464 contact2 1F465 controlknob 1F39B couple 1F491
            couplekiss 1F48F crying 1F622 darksunglasses 1F576 devilhorns 1F608 diamondshapewithdotinside 1F4A0 dissapointedrelief 1F625
            dog 1F436 dogside 1F415 doubleexclaimationmark 203C down 1F447 downpointingsmallredtrisngle 1F53D dragonhead 1F432
            dragonside 1F409 eightspokedasterix 2733 endwithleftwardsarrow 1F51A envelopedownarrowabove 1F4E9 europeafricaglobe 1F30D
            evergreen 1F332 exclaimationquestionmark 2049 fallingleaf 1F342 fishcakeswirl 1F365 fistedhand 1F44A flexbicep 1F4AA
            floppydisk2 1F4BE forkknife 1F37D franceflag 1F1EB-1F1F7 frontfacingchick 1F425 frown 1F64D frownmouth 1F626 girlgirl 1F46D
            girlguy 1F46B gma 1F475 gpa 1F474 greatbritainflag 1F1EC-1F1E7 grineyes 1F604 grinsquint 1F606 grinsweat 1F605 grintears 1F602
            grinwide 1F603 guapimao 1F472 guyguy 1F46C hampster 1F439 handheldvideocamera 1F4F9 hands 1F450 handup 1F64B headmassage 1F486
            heartarrow 1F498 heartblue none heartgreen 1F49A heartpurple 1F49C heartyellow 1F49B heavyexclaimationmarksymbol 2757
            heavymultiplicationsymbol 2716 heels 1F460 high5 1F64C highspeedtrainbulletnose 1F685 index 261D italianflag 1F1EE-1F1F9
            japaneseangrymask 1F47A japanflag 1F1EF-1F1F5 keyboard none kiss none kissclosedeyes 1F61A kisseyes 1F619 koreaflag 1F1F0-1F1F7
            leaffluttering 1F343 left 1F448 leftmagnifyingglass 1F50D leftwritinghand 270D leopardside 1F406 lips none lockandkey 1F510
            loudlycrying 1F62D makeupbag 1F45D manltepiececlock 1F570 mansshirt 1F455 mensrunner 1F45F mensshoe 1F45E meridianglobe 1F310
            monkeyhear 1F649 monkeysee 1F648 monkeyspeak 1F64A mouse 1F42D mouseside 1F401 negativesquaredlatincaptiala 1F170
            negativesquaredlatincaptialb 1F171 negativesquaredlatincaptialo 1F17E nogesture 1F645 nooneunder18symbol 1F51E
            notebookdecorativecover 1F4D4 okgesture 1F646 onarrowleftright 1F51B openmailboxlowered 1F4ED openmailboxraised 1F4EC outbox 1F4E4
            perservere 1F623 phonerightarrowleft 1F4F2 pig 1F437 pigside 1F416 pigsnout 1F43D pinkwallet 1F45B potablewatersystem 1F6B0
            pout 1F64E pouting 1F621 present 1F381 raisedhandpartfingers 1F596 raisedhandsfingerssplayed 1F590 reminder 1F397
            reversehandmiddlefinger 1F595 right 1F449 rightmagnifyingglass 1F50E russianflag 1F1F7-1F1FA saggitarius 2650 sandals 1F461
            screamfear 1F631 silhouetteohjapan 1F5FE sixpointedstarwithdot 1F52F sleuthspy 1F575 smallfrown 1F641 smallsmile 1F642
            smileeyes 1F60A smiletongue 1F60B snowmountains 1F3D4 soonwithrightarrow 1F51C spanishflag 1F1EA-1F1F8 speaker3soundwaves 1F50A
            speakercancellation 1F507 speakeronesoundwave 1F509 speechbubble 1F4AC spurtingwhale 1F433 squaredup 1F199 stormcloud 1F329
            studiomic 1F399 sunglasses 1F60E sunraincloud 1F326 sunrays 2600 sweatsplash 1F4A6 telephonereceiver2 1F4DE tennisball 1F3BE
            thoughtbaloon 1F4AD tiger 1F42F tigerside 1F405 tongueoutwink 1F61C tongueoutwink2 1F61D topwithupwardsarrow 1F51D
            toykotower 1F5FC tramcar none turban 1F473 up 1F446 uppointingsmallredtrisngle 1F53C videocasette 1F4FC waitress 1F481
            waningbibbousmoon 1F316 wave 1F30A waving 1F44B whiteexclaimationmark 2755 window none winking 1F609 wiredkeyboard 2328
            womansshirt 1F45A
            """,
        ["emojione-v1"] = """
            keyboard none window none wired-keyboard 2328 left-writing-hand 270D lips2 none book2 none
            """,
        ["streamline-emojis"] = """
            crazy-face 1F92A game-dice 1F3B2 red-wine-glass 1F377 turkey 1F1F9-1F1F7 wine-glass none
            """,
        ["noto-v1"] = """
            keycap none keycap-pound 0023-20E3
            """,
        ["openmoji"] = """
            scroll none
            """,
    };

    /// <summary>Icon name to code points; null where the icon draws no emoji of the set although its name says so.</summary>
    internal static IReadOnlyDictionary<string, string?> For(string style)
    {
        var table = new Dictionary<string, string?>(StringComparer.Ordinal);
        if (!Tables.TryGetValue(style, out var text)) return table;
        var words = text.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries);
        for (var i = 0; i < words.Length; i += 2) table.Add(words[i], words[i + 1] == "none" ? null : words[i + 1]);
        return table;
    }
}
